"""What an instance's root looks like. Pure: paths in, a list of mounts out.

An appliance sees the machine's programs read-only, its own /etc and /var, and nothing else of the machine. A guest
has a file tree of its own that it can change; it is laid over a base that all guests share, and over /usr.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from controlplane.hypervisors.base import SHARES, Share
from controlplane.hypervisors.namespace.mounts import Mount

#: what merged-/usr systems have as links into /usr, others as directories (file-hierarchy(7))
PROGRAMS = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")

#: packages that run in an appliance; the control plane is not among them
APPLIANCE_PACKAGES = ("appliance", "router", "ssvm", "consoleproxy")

#: directories of the machine's /etc with many small files that an appliance reads and never changes
SHARED_ETC = ("alternatives", "iproute2", "ssl/certs")

DEVICES = ("null", "zero", "full", "random", "urandom", "tty", "net/tun", "ppp")


@dataclass(frozen=True)
class Python:
    """Where the interpreter and the packages are that appliances run."""

    executable: str
    #: directories and files of the machine that Python needs
    paths: tuple[Path, ...]


def this_python() -> Python:
    """The interpreter that runs the control plane, with the packages of the appliances."""
    import appliance

    prefixes = [Path(sys.prefix), Path(sys.base_prefix), Path(sys.exec_prefix)]
    # the executable of a virtual environment is a link to one outside it, perhaps through others
    executable = Path(sys.executable)
    top = Path(appliance.__file__ or "").resolve().parent.parent
    packages = [top / name for name in APPLIANCE_PACKAGES]
    given = [Path(item) for item in os.environ.get("PYTHONPATH", "").split(":") if item]
    paths = [*prefixes, *_links(executable), *packages, *(path for path in given if path.resolve() != top)]
    paths = [path for path in paths if path.exists()]
    return Python(sys.executable, tuple(dict.fromkeys(uncovered(paths))))


def _links(path: Path) -> list[Path]:
    found = []
    while path.is_symlink():
        path = path.parent / path.readlink()
        found.append(path)
    return found


def uncovered(paths: Sequence[Path], shown: Sequence[Path] = (Path("/usr"),)) -> list[Path]:
    """Those of ``paths`` that lie neither in ``shown`` nor in another of ``paths``, shortest first."""
    result: list[Path] = []
    for path in sorted(set(paths), key=lambda item: len(item.parts)):
        if not any(path.is_relative_to(above) for above in (*shown, *result)):
            result.append(path)
    return result


def programs(root: Path = Path("/")) -> list[Mount]:
    """/bin, /lib and the like as they are on the machine: links where they are links."""
    mounts = []
    for name in PROGRAMS:
        path = root / name
        if path.is_symlink():
            mounts.append(Mount("symlink", f"/{name}", str(path.readlink())))
        elif path.is_dir():
            mounts.append(Mount("bind", f"/{name}", str(path), read_only=True))
    return mounts


def kernel(memory_mb: int) -> list[Mount]:
    """/proc, /sys, /dev, /run and /tmp of the instance's own namespaces."""
    return [
        Mount("proc", "/proc"),
        Mount("sysfs", "/sys"),
        Mount("tmpfs", "/dev", megabytes=1),
        # nodes of the machine: read-only keeps their mode and owner, and does not keep anyone from writing to a device
        *(Mount("bind", f"/dev/{name}", f"/dev/{name}", read_only=True, optional=True) for name in DEVICES),
        Mount("devpts", "/dev/pts"),
        Mount("symlink", "/dev/ptmx", "pts/ptmx"),
        Mount("symlink", "/dev/fd", "/proc/self/fd"),
        Mount("symlink", "/dev/stdin", "/proc/self/fd/0"),
        Mount("symlink", "/dev/stdout", "/proc/self/fd/1"),
        Mount("symlink", "/dev/stderr", "/proc/self/fd/2"),
        Mount("tmpfs", "/dev/shm", mode=0o1777, megabytes=max(16, memory_mb // 4)),  # noqa: S108 - the standard place
        Mount("tmpfs", "/run", megabytes=max(16, memory_mb // 4)),
        Mount("tmpfs", "/tmp", mode=0o1777, megabytes=max(16, memory_mb // 4)),  # noqa: S108 - the standard place
    ]


def appliance(
    folder: Path, data: Path, python: Python, memory_mb: int, shares: Sequence[Share] = ()
) -> tuple[Mount, ...]:
    """The root of the appliance whose files are in ``folder`` (etc, var)."""
    return (
        Mount("tmpfs", "/", megabytes=1),
        Mount("bind", "/usr", "/usr", read_only=True),
        *programs(),
        *kernel(memory_mb),
        *(Mount("bind", str(path), str(path), read_only=True) for path in python.paths),
        *_cover(data, [Path("/usr"), *python.paths]),
        Mount("bind", "/etc", str(folder / "etc")),
        *(Mount("bind", f"/etc/{name}", f"/etc/{name}", read_only=True, optional=True) for name in SHARED_ETC),
        Mount("bind", "/var", str(folder / "var")),
        *(Mount("bind", f"{SHARES}/{share.name}", share.source) for share in shares),
        Mount("directory", "/root", mode=0o755),
        Mount("seal", "/"),
    )


def guest(folder: Path, base: Path, data: Path, shown: Sequence[Path], memory_mb: int) -> tuple[Mount, ...]:
    """The root of the guest whose changes to ``base`` and /usr are in ``folder``. It sees ``shown``, read-only."""
    return (
        Mount("overlay", "/", str(base), changes=str(folder / "root"), otherwise="copy"),
        Mount("overlay", "/usr", "/usr", changes=str(folder / "usr")),
        *(mount for mount in programs() if mount.kind == "bind"),
        *kernel(memory_mb),
        *(Mount("bind", str(path), str(path), read_only=True) for path in shown),
        *_cover(data, [Path("/usr"), *shown]),
    )


def _cover(data: Path, shown: Sequence[Path]) -> list[Mount]:
    # the data directory holds the keys of everything: where it lies in what is shown, nothing is seen of it
    if any(data.is_relative_to(path) for path in shown):
        return [Mount("tmpfs", str(data), megabytes=1, mode=0o700, read_only=True)]
    return []
