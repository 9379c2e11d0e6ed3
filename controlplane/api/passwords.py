"""Login passwords and API tokens: hashing, checking, making."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets

# scrypt (RFC 7914): 16 MiB and some 50 ms a try
_COST, _BLOCK, _PARALLEL = 2**14, 8, 1
MAX_PASSWORD = 255


def hash_password(password: str) -> str:
    """``scrypt$<n>$<r>$<p>$<salt>$<hash>``, both in base64."""
    salt = secrets.token_bytes(16)
    digest = _scrypt(password, salt, _COST, _BLOCK, _PARALLEL)
    return f"scrypt${_COST}${_BLOCK}${_PARALLEL}${_text(salt)}${_text(digest)}"


def check_password(password: str, stored: str) -> bool:
    """Whether the password is the one that was hashed. An empty ``stored`` fits nothing and takes as long."""
    if not stored:
        _scrypt(password, b"no such user....", _COST, _BLOCK, _PARALLEL)
        return False
    _, cost, block, parallel, salt, digest = stored.split("$")
    found = _scrypt(password, base64.b64decode(salt), int(cost), int(block), int(parallel))
    return hmac.compare_digest(found, base64.b64decode(digest))


def new_password() -> str:
    """A random password of 128 bits."""
    return secrets.token_urlsafe(16)


def new_api_key() -> str:
    """An API key or secret key: 64 random bytes, URL-safe."""
    return secrets.token_urlsafe(64)


def token_hash(token: str) -> str:
    """What is kept of a session token; tokens are random, so a plain hash is enough."""
    return hashlib.sha256(token.encode()).hexdigest()


def _scrypt(password: str, salt: bytes, cost: int, block: int, parallel: int) -> bytes:
    return hashlib.scrypt(
        password.encode(), salt=salt, n=cost, r=block, p=parallel, maxmem=256 * cost * block, dklen=32
    )


def _text(value: bytes) -> str:
    return base64.b64encode(value).decode()
