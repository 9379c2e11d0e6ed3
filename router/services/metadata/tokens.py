"""Session tokens: proof that a program in the guest sent a PUT itself, which a forged GET cannot give.

A token says until when it is good and for which guest, and is signed; nothing is stored but the key.
"""

from __future__ import annotations

import hashlib
import os
import struct
import time
from binascii import Error, a2b_base64, b2a_base64
from hmac import compare_digest
from pathlib import Path

MOST_SECONDS = 21600

_EXPIRY = struct.Struct("!I8s")
_MAC_SIZE = 16


def _mac(key: bytes, address: str, claim: bytes) -> bytes:
    return hashlib.blake2b(claim + address.encode(), key=key, digest_size=_MAC_SIZE).digest()


def issue(key: bytes, address: str, seconds: int) -> str:
    """A token for the guest at ``address``, good for ``seconds`` by the monotonic clock."""
    claim = _EXPIRY.pack(int(time.monotonic()) + seconds, os.urandom(8))
    return b2a_base64(claim + _mac(key, address, claim), newline=False).decode()


def valid(key: bytes, address: str, token: str) -> bool:
    """Whether ``token`` was issued to the guest at ``address`` and has not expired."""
    try:
        raw = a2b_base64(token.encode("ascii"), strict_mode=True)
    except (Error, UnicodeEncodeError):
        return False
    if len(raw) != _EXPIRY.size + _MAC_SIZE:
        return False
    claim, mac = raw[: _EXPIRY.size], raw[_EXPIRY.size :]
    return compare_digest(mac, _mac(key, address, claim)) and time.monotonic() < _EXPIRY.unpack(claim)[0]


def load_key(path: Path) -> bytes:
    """The key in ``path``, made when there is none, so that tokens outlive a restart of the server.

    The file belongs in memory (tmpfs): the clock that tokens are measured by starts anew on a boot, as the key must.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError:
        key = os.urandom(32)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(key)
    temporary.rename(path)
    return key
