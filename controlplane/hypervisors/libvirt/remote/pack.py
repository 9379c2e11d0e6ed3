"""The program that a host is sent: our sources and pyroute2's, as a ZIP file that Python imports from memory."""

from __future__ import annotations

import io
import zipfile
from functools import cache
from importlib.util import find_spec
from pathlib import Path

#: Words for the host's shell, always the same. Reads the length of the ZIP file and the file, then serves calls.
COMMAND = (
    'exec python3 -I -c \'import os, sys; given = sys.stdin.buffer; memory = os.memfd_create("gatehouse"); '
    'os.write(memory, given.read(int(given.readline()))); sys.path.insert(0, f"/proc/self/fd/{memory}"); '
    "from controlplane.hypervisors.libvirt.remote.serve import main; main()'"
)
#: beside the packages' own files
_PARENTS = ("controlplane/__init__.py",)
_PACKAGES = ("appliance", "controlplane.hypervisors", "pyroute2")


@cache
def program() -> bytes:
    """The ZIP file, about 600 KB."""
    packed = io.BytesIO()
    root = Path(__file__).resolve().parents[4]
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as file:
        for name in _PARENTS:
            file.write(root / name, name)
        for package in _PACKAGES:
            home = _home(package)
            for path in sorted(home.rglob("*.py")):
                file.write(path, Path(*package.split("."), path.relative_to(home)))
    return packed.getvalue()


def _home(package: str) -> Path:
    spec = find_spec(package)
    assert spec is not None and spec.origin is not None
    return Path(spec.origin).parent
