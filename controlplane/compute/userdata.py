"""User data as clients give it, and passwords made for guests."""

from __future__ import annotations

import base64
import secrets
import string
import urllib.parse

from controlplane.errors import ParameterError

#: letters and digits that are not mistaken for one another when read aloud or typed
PASSWORD_ALPHABET = "".join(sorted(set(string.ascii_letters + string.digits) - set("0O1lI")))


def check(value: str, limit: int) -> str | None:
    """User data in normal form (base64 with padding); None for an empty text, which takes it away.

    ``limit`` is in bytes after decoding. ParameterError when it is not base64 or too long.
    """
    # clients that build addresses by hand send it encoded twice, or lose '+' to a space
    text = urllib.parse.unquote(value) if "%" in value else value
    text = "".join(text.splitlines()).replace(" ", "+")
    if not text:
        return None
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except ValueError:
        raise ParameterError("userdata is not base64 encoded") from None
    if len(raw) > limit:
        raise ParameterError(f"userdata has {len(raw)} bytes, the limit is {limit} (setting vm.userdata.max.length)")
    return base64.b64encode(raw).decode()


def new_password(length: int) -> str:
    """A random password for a guest."""
    return "".join(secrets.choice(PASSWORD_ALPHABET) for _ in range(length))
