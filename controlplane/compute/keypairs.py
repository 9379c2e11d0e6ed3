"""SSH key pairs of accounts (RFC 4253 section 6.6, RFC 4716; guide: chapter on SSH keys)."""

from __future__ import annotations

import base64
import binascii
import hashlib

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from sqlalchemy import select
from sqlalchemy.orm import Session

from controlplane.errors import ParameterError
from controlplane.store.models import Account, SshKeyPair

#: OpenSSH's name of a key type, which the key's first field repeats
KEY_TYPES = (
    "ssh-rsa",
    "ssh-dss",
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com",
)


def generate() -> tuple[str, str]:
    """A new RSA key (2048 bits, which every guest's sshd takes): (private key in PEM, public key line)."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    return private.decode(), public.decode()


def _blob(line: str) -> bytes:
    """The binary key inside a public key line; ParameterError when it is none."""
    fields = line.split(maxsplit=2)
    try:
        if len(fields) < 2 or "\n" in line or "\r" in line or fields[0] not in KEY_TYPES:
            raise ValueError
        blob = base64.b64decode(fields[1], validate=True)
        length = int.from_bytes(blob[:4], "big")
        if blob[4 : 4 + length] != fields[0].encode() or len(blob) <= 4 + length:
            raise ValueError
    except (ValueError, binascii.Error):
        raise ParameterError(
            "Public key is invalid: give one line in OpenSSH's format, such as: ssh-ed25519 AAAAC3... comment"
        ) from None
    return blob


def fingerprint(line: str) -> str:
    """The MD5 fingerprint of a public key, as the API has always shown it (an identifier, no protection)."""
    digest = hashlib.md5(_blob(line), usedforsecurity=False).hexdigest()
    return ":".join(digest[at : at + 2] for at in range(0, len(digest), 2))


def add(session: Session, account: Account, name: str, public_key: str) -> SshKeyPair:
    """Keep a public key under a name. ParameterError when the account has the name or the key already."""
    line = public_key.strip()
    mark = fingerprint(line)
    same = (SshKeyPair.name == name) | (SshKeyPair.fingerprint == mark)
    there = session.execute(select(SshKeyPair.name).where(SshKeyPair.account_id == account.id, same)).scalars().first()
    if there == name:
        raise ParameterError(f"A key pair with name '{name}' already exists for account {account.name}.")
    if there is not None:
        raise ParameterError(f"A key pair with key '{mark}' already exists for account {account.name}: {there}.")
    pair = SshKeyPair(account_id=account.id, name=name, fingerprint=mark, public_key=line)
    session.add(pair)
    session.flush()
    return pair


def find(session: Session, account: Account, name: str) -> SshKeyPair:
    """An account's key pair by name; ParameterError when there is none."""
    statement = select(SshKeyPair).where(SshKeyPair.account_id == account.id, SshKeyPair.name == name)
    pair = session.execute(statement).scalar_one_or_none()
    if pair is None:
        raise ParameterError(f"A key pair with name '{name}' does not exist for account {account.name}.")
    return pair
