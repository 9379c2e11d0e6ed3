"""Checksums as clients write them, ``{SHA-256}<hex>`` or hexadecimal digits alone, and as documents have them."""

from __future__ import annotations

import re

from controlplane.errors import ParameterError
from ssvm.services.storage.model.jobs import DIGESTS

_FORM = re.compile(r"(?:\{(?P<algorithm>[A-Za-z0-9-]+)\})?(?P<digest>[0-9A-Fa-f]+)")
_BY_LENGTH = {length: algorithm for algorithm, length in DIGESTS.items()}


def parse(value: str) -> str:
    """``algorithm:digest`` of what a client wrote. Raises ParameterError naming the parameter."""
    found = _FORM.fullmatch(value.strip())
    if found is not None:
        given = found["algorithm"]
        digest = found["digest"].lower()
        name = given.lower().replace("-", "") if given else _BY_LENGTH.get(len(digest), "")
        if DIGESTS.get(name) == len(digest):
            return f"{name}:{digest}"
    raise ParameterError(
        "checksum: it must be hexadecimal digits, with the algorithm before them where the length does not tell it: "
        f"{{SHA-256}}9f86d0...; known are {', '.join(DIGESTS)}"
    )


def show(value: str | None) -> str | None:
    """As clients write it."""
    if value is None:
        return None
    algorithm, _, digest = value.partition(":")
    return f"{{{re.sub('^sha', 'SHA-', algorithm) if algorithm != 'md5' else 'MD5'}}}{digest}"
