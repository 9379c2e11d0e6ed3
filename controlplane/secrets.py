"""Sealing of secrets at rest: AES-256-GCM with a key in a root-only file beside the database."""

from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from appliance.errors import GatehouseError

KEY_FILE = "secret.key"
_VERSION = b"\x01"
#: what a sealed text in a job's stored result begins with
_MARK = "sealed:"
_NONCE = 12


class SecretsError(GatehouseError):
    """The key does not open what was sealed, or the key file is not one."""


class Secrets:
    """Seals and opens short texts. ``key`` is 32 bytes."""

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)

    def seal(self, text: str) -> bytes:
        """Encrypt ``text``: a version byte, a random 96-bit nonce and the ciphertext with its tag."""
        nonce = os.urandom(_NONCE)
        return _VERSION + nonce + self._cipher.encrypt(nonce, text.encode(), None)

    def open(self, blob: bytes) -> str:
        """The sealed text. Raises SecretsError when it was sealed with another key or is damaged."""
        if blob[:1] != _VERSION:
            raise SecretsError("a stored secret has an unknown format; was it written by a newer version?")
        try:
            return self._cipher.decrypt(blob[1 : 1 + _NONCE], blob[1 + _NONCE :], None).decode()
        # ValueError: cut off so short that not even a nonce is there
        except (InvalidTag, ValueError) as error:
            raise SecretsError(
                f"a stored secret does not open; restore the {KEY_FILE} that belongs to this database"
            ) from error

    def seal_text(self, text: str) -> str:
        """``seal`` as text, for the stored result of a job; ``reveal`` opens it when the client asks for the result."""
        return as_text(self.seal(text))

    def reveal(self, value: Any) -> Any:
        """A job's stored result with its sealed texts opened; whatever else begins like one stays as it is."""
        if isinstance(value, dict):
            return {key: self.reveal(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self.reveal(item) for item in value]
        if isinstance(value, str) and value.startswith(_MARK):
            try:
                return self.open(base64.b64decode(value.removeprefix(_MARK), validate=True))
            except (ValueError, SecretsError):
                return value
        return value


def as_text(blob: bytes) -> str:
    """What ``Secrets.seal`` made, as ``Secrets.seal_text`` gives it."""
    return _MARK + base64.b64encode(blob).decode()


def load_secrets(data_dir: Path) -> Secrets:
    """Secrets with the key of ``data_dir``; a first start makes the key (mode 0600)."""
    path = data_dir / KEY_FILE
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        key = path.read_bytes()
    else:
        key = AESGCM.generate_key(256)
        with os.fdopen(descriptor, "wb") as file:
            file.write(key)
            file.flush()
            os.fsync(descriptor)
    if len(key) != 32:
        raise SecretsError(f"{path} is not a 32-byte key; restore it from a backup")
    return Secrets(key)
