"""The page's files, in memory: what is not one of them is not there, so no path leads anywhere else."""

from __future__ import annotations

import gzip
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

_HERE = Path(__file__).resolve().parents[1] / "page"
_NOVNC = _HERE / "node_modules/@novnc/novnc"
#: where the page finds noVNC; the version is in the path, so that a browser may keep these files for good
_PREFIX = "/console/novnc/"

_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}
_OWN = {"": "index.html", **{name: name for name in ("boot.js", "console.js", "keys.js", "style.css", "icon.svg")}}


@dataclass(frozen=True)
class Asset:
    """One file: its media type, its octets, the same by gzip, and its entity tag."""

    type: str
    body: bytes
    zipped: bytes
    tag: str
    #: seconds that a browser may keep it without asking
    age: int = 0


def assets() -> dict[str, Asset]:
    """Path -> file. Raises FileNotFoundError when noVNC was not installed."""
    package = _NOVNC / "package.json"
    if not package.exists():
        raise FileNotFoundError(f"noVNC is not in {_NOVNC}; run `make setup`, which installs it by npm")
    version = json.loads(package.read_text("utf-8"))["version"]
    base = f"{_PREFIX}{version}/"
    found = {f"/console/{path}": _asset(_HERE / name, base) for path, name in _OWN.items()}
    # unmodified, with its licence and those of what it holds
    names = [*_NOVNC.glob("core/**/*.js"), *_NOVNC.glob("vendor/**/*.js")]
    names += [*_NOVNC.glob("**/LICENSE*"), _NOVNC / "AUTHORS"]
    for path in names:
        if path.is_file():
            found[base + path.relative_to(_NOVNC).as_posix()] = _asset(path, age=31_536_000)
    return found


def _asset(path: Path, novnc: str = "", age: int = 0) -> Asset:
    body = path.read_bytes()
    if novnc:
        body = body.replace(b"/console/novnc/", novnc.encode())
    tag = hashlib.sha256(body).hexdigest()[:32]
    return Asset(_TYPES.get(path.suffix, _TYPES[".txt"]), body, gzip.compress(body, mtime=0), f'"{tag}"', age)
