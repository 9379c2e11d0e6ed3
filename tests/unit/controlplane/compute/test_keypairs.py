from __future__ import annotations

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
    load_ssh_public_key,
)
from sqlalchemy.orm import Session

from controlplane.compute import keypairs
from controlplane.errors import ParameterError
from controlplane.store.models import Account
from tests.rows import Rows

#: a public key that is no secret's: all zeros
FIXED = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"


def _line(key: ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey) -> str:
    return key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


def test_a_generated_pair_belongs_together() -> None:
    private, public = keypairs.generate()
    assert private.startswith("-----BEGIN RSA PRIVATE KEY-----\n")
    key = load_pem_private_key(private.encode(), None)
    assert key.public_key() == load_ssh_public_key(public.encode())


def test_the_fingerprint_is_the_one_ssh_keygen_shows() -> None:
    # ssh-keygen -l -E md5 -f key.pub
    assert keypairs.fingerprint(f"{FIXED} test") == "3d:52:38:ce:ff:94:f5:d7:81:a4:a4:f9:2b:4f:fe:a0"


def test_keys_of_several_kinds_are_taken(rows: Rows, session: Session) -> None:
    for name, key in (
        ("ed25519", ed25519.Ed25519PrivateKey.generate()),
        ("ecdsa", ec.generate_private_key(ec.SECP384R1())),
    ):
        pair = keypairs.add(session, rows.account, name, f"  {_line(key)} me@home\n")
        assert pair.public_key == f"{_line(key)} me@home"
        assert keypairs.find(session, rows.account, name) is pair


@pytest.mark.parametrize(
    "line",
    [
        "",
        "ssh-rsa",
        "ssh-rsa AAAA",
        "ssh-rsa !!!!",
        "ssh-rsa " + base64.b64encode(b"\0\0\0\x0bssh-ed25519" + b"x" * 40).decode(),
        FIXED + "\nssh-rsa AAAA another line",
        'command="reboot" ' + FIXED,
        "-----BEGIN RSA PRIVATE KEY-----",
    ],
)
def test_what_is_no_public_key_is_refused(rows: Rows, session: Session, line: str) -> None:
    with pytest.raises(ParameterError, match="Public key is invalid"):
        keypairs.add(session, rows.account, "k", line)


def test_names_and_keys_are_unique_to_an_account(rows: Rows, session: Session) -> None:
    bob = rows.add(Account(name="bob", domain_id=rows.domain.id))
    one, two = _line(ed25519.Ed25519PrivateKey.generate()), _line(ed25519.Ed25519PrivateKey.generate())
    keypairs.add(session, rows.account, "k", one)
    keypairs.add(session, bob, "k", one)
    with pytest.raises(ParameterError, match="name 'k' already exists"):
        keypairs.add(session, rows.account, "k", two)
    with pytest.raises(ParameterError, match="with key"):
        keypairs.add(session, rows.account, "other", one)
    with pytest.raises(ParameterError, match="does not exist"):
        keypairs.find(session, bob, "other")
