"""What an image is made from: the files of this repository, their digest, and the time they are from."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

from appliance.errors import CommandError
from appliance.run import run

REPOSITORY = Path(__file__).resolve().parents[2]
FOLDER = REPOSITORY / "image-build"
#: Python packages of this repository that the image ships: everything but the control plane
PACKAGES = tuple(name for name in ("appliance", "router", "ssvm", "consoleproxy") if (REPOSITORY / name).is_dir())
_INPUTS = ("image-build", "tools/image", *PACKAGES)


def files(folder: Path) -> list[Path]:
    """Regular files below ``folder`` in a fixed order, without what Python leaves behind."""
    found = (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return sorted(path for path in found if path.suffix != ".md")


def digest(extra: Iterable[str] = ()) -> str:
    """SHA-256 over names, modes and contents of all inputs: an image with the same need not be built again."""
    sum_ = hashlib.sha256(repr(sorted(extra)).encode())
    for name in _INPUTS:
        for path in files(REPOSITORY / name):
            sum_.update(f"{path.relative_to(REPOSITORY)} {path.stat().st_mode & 0o111:o}\0".encode())
            sum_.update(hashlib.sha256(path.read_bytes()).digest())
    return sum_.hexdigest()


def epoch() -> int:
    """SOURCE_DATE_EPOCH, or when the inputs were last committed (UNIX time in seconds).

    The same for every commit that changes nothing of the image, so such commits have the same image.
    """
    if given := os.environ.get("SOURCE_DATE_EPOCH"):
        return int(given)
    try:
        text = run(["git", "-C", str(REPOSITORY), "log", "-1", "--format=%ct", "--", *_INPUTS]).stdout.strip()
    except CommandError:
        text = ""
    return int(text or 1_700_000_000)


def lines(path: Path) -> list[str]:
    """The entries of a list file: one a line, "#" begins a comment."""
    found = (line.partition("#")[0].strip() for line in path.read_text().splitlines())
    return [line for line in found if line]
