"""Checksums as jobs name them: ``algorithm:hexadecimal``."""

from __future__ import annotations

from collections.abc import Mapping

from ssvm.errors import JobFailedError

#: digests that prove that an object is the one that was checked
STRONG = ("sha256", "sha384", "sha512")


def algorithm(checksum: str | None) -> str:
    """SHA-256 where nothing else is wanted."""
    return checksum.partition(":")[0] if checksum else "sha256"


def strong(checksum: str | None) -> str:
    """The algorithm of ``checksum`` if that proves something, else SHA-256."""
    return named if (named := algorithm(checksum)) in STRONG else "sha256"


def verify(checksum: str | None, digests: Mapping[str, str]) -> None:
    """Raises JobFailedError when the digest is not what was said."""
    if checksum is None:
        return
    name, _, wanted = checksum.partition(":")
    if digests[name] != wanted:
        raise JobFailedError("checksum", f"the file has the {name} checksum {digests[name]}, not {wanted} as was said")
