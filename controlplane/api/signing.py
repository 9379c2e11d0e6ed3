"""Request signatures: HMAC-SHA1 over the sorted, encoded, lower-cased parameters.

Clients differ in how they sort names (as sent, or in lower case) and in whether ``~`` is encoded (Java's URLEncoder
does, RFC 3986 does not); all four combinations are accepted.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Iterable
from datetime import UTC, datetime
from urllib.parse import quote

from controlplane.api.parameters import Raw, text_of
from controlplane.errors import UnauthenticatedError

#: What URLEncoder leaves bare beside letters and digits; quote() itself leaves ``_.-~``.
_SAFE = "*"


def texts_to_sign(parameters: Iterable[tuple[str, str]]) -> list[str]:
    """The four texts a client may have signed. ``parameters`` are (name as sent, decoded value)."""
    pairs = [(name, quote(value, safe=_SAFE)) for name, value in parameters if name.lower() != "signature"]
    texts = []
    for ordered in (sorted(pairs), sorted(pairs, key=lambda pair: pair[0].lower())):
        bare = "&".join(f"{name}={value}" for name, value in ordered)
        texts.append(bare.lower())
        java = "&".join(f"{name}={value.replace('~', '%7E')}" for name, value in ordered)
        texts.append(java.lower())
    return texts


def sign(text: str, secret: str) -> str:
    """The signature of one text: base64 of HMAC-SHA1. (Forging it needs the key; SHA-1 collisions do not help.)"""
    return base64.b64encode(hmac.new(secret.encode(), text.encode(), hashlib.sha1).digest()).decode()


def verify(raw: Raw, secret: str) -> bool:
    """Whether the request's signature is one of the four valid ones; takes the same time wherever they differ."""
    signature = (text_of(raw, "signature") or "").strip().encode()
    valid = False
    for text in texts_to_sign(raw.values()):
        valid |= hmac.compare_digest(sign(text, secret).encode(), signature)
    return valid


def check_expiry(raw: Raw, now: datetime) -> None:
    """Raise UnauthenticatedError when signatureVersion is 3 and ``expires`` is missing, malformed or in the past."""
    if text_of(raw, "signatureversion") != "3":
        return
    text = text_of(raw, "expires")
    if not text:
        raise UnauthenticatedError("signatureVersion 3 needs the parameter expires")
    try:
        # "+" of the zone is a space when the client forgot to encode it
        expires = datetime.strptime(text.strip().replace(" ", "+"), "%Y-%m-%dT%H:%M:%S%z").astimezone(UTC)
    except (ValueError, OverflowError):
        raise UnauthenticatedError("expires must look like 2026-11-22T05:10:51+0000") from None
    if expires < now:
        raise UnauthenticatedError(f"the request expired at {text}; check the client's clock")
