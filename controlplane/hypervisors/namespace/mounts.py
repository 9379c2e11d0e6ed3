"""How an instance's root is put together: a list of mounts (pure data), and the code that performs it.

Targets are paths inside the instance. Sources are paths of the machine. The list is performed in order in a private
mount namespace, below a directory that then becomes the root.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from controlplane.hypervisors import syscalls


@dataclass(frozen=True)
class Mount:
    """One step. ``target`` begins with ``/``; directories and files to mount on are made where they are missing."""

    kind: Literal["tmpfs", "bind", "overlay", "detached", "proc", "sysfs", "devpts", "symlink", "directory", "seal"]
    target: str
    #: bind: file or directory; overlay: lower directory; symlink: what it points to; detached: the number of a
    #: descriptor of a mount of a file (syscalls), which is closed
    source: str = ""
    #: overlay: a directory with ``upper`` (what was changed) and ``work`` in it
    changes: str = ""
    #: overlay, where the data directory's file system carries none: a copy below ``changes``, or no changes at all
    otherwise: Literal["copy", "read-only"] = "read-only"
    #: tmpfs and directory
    mode: int = 0o755
    #: tmpfs: size limit in MiB
    megabytes: int = 64
    read_only: bool = False
    #: leave out a bind whose source does not exist
    optional: bool = False


def perform(mounts: Iterable[Mount], root: Path) -> None:
    """Carry the list out below ``root``. Raises OSError naming the mount that failed."""
    for mount in mounts:
        target = root / mount.target.lstrip("/")
        match mount.kind:
            case "tmpfs":
                _tmpfs(mount, target)
            case "bind":
                _bind(mount, target)
            case "overlay":
                _overlay(mount, target)
            case "detached":
                _file(target)
                syscalls.move_mount(int(mount.source), target)
                os.close(int(mount.source))
            case "proc":
                _proc(target)
            case "sysfs":
                _kernel("sysfs", target, syscalls.MS_RDONLY)
            case "devpts":
                target.mkdir(exist_ok=True)
                options = "newinstance,ptmxmode=0666,mode=0620"
                syscalls.mount("devpts", target, "devpts", syscalls.MS_NOSUID | syscalls.MS_NOEXEC, options)
            case "symlink":
                target.parent.mkdir(parents=True, exist_ok=True)
                target.symlink_to(mount.source)
            case "directory":
                target.mkdir(parents=True, exist_ok=True)
                target.chmod(mount.mode)
            case "seal":
                syscalls.set_read_only(target, True)


def _tmpfs(mount: Mount, target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    flags = syscalls.MS_NOSUID | (syscalls.MS_RDONLY if mount.read_only else 0)
    syscalls.mount("tmpfs", target, "tmpfs", flags, f"mode={mount.mode:o},size={mount.megabytes}m")


def _bind(mount: Mount, target: Path) -> None:
    source = Path(mount.source)
    if mount.optional and not source.exists():
        return
    if source.is_dir():
        target.mkdir(parents=True, exist_ok=True)
    else:
        _file(target)
    # recursive: in a user namespace a part of a tree must not be shown without what is mounted on it
    syscalls.mount(mount.source, target, flags=syscalls.MS_BIND | syscalls.MS_REC)
    if mount.read_only:
        syscalls.set_read_only(target, True, recursive=True)


def _file(target: Path) -> None:
    """Something to mount a file on."""
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        target.touch()


def _overlay(mount: Mount, target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    upper, work = Path(mount.changes, "upper"), Path(mount.changes, "work")
    for directory in (upper, work):
        directory.mkdir(parents=True, exist_ok=True)
    # user.* attributes are those that a user namespace may write (kernel: filesystems/overlayfs, "userxattr")
    options = f"lowerdir={mount.source},upperdir={upper},workdir={work}" + (",userxattr" if in_user_namespace() else "")
    try:
        syscalls.mount("overlay", target, "overlay", options=options)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENODEV):
            raise
        if mount.otherwise == "copy":
            _fill(upper, Path(mount.source))
            syscalls.mount(str(upper), target, flags=syscalls.MS_BIND)
        else:
            _bind(Mount("bind", mount.target, mount.source, read_only=True), target)


def _fill(upper: Path, source: Path) -> None:
    """Copy what ``upper`` has not of ``source``. A link that the guest made of a directory is not followed."""
    for path in source.iterdir():
        copy = upper / path.name
        if path.is_dir() and not path.is_symlink():
            if copy.is_symlink() or (copy.exists() and not copy.is_dir()):
                continue
            copy.mkdir(path.stat().st_mode & 0o7777, exist_ok=True)
            _fill(copy, path)
        elif not copy.exists() and not copy.is_symlink():
            shutil.copy2(path, copy, follow_symlinks=False)


def in_user_namespace() -> bool:
    return Path("/proc/self/uid_map").read_text().split() != ["0", "0", "4294967295"]


def _proc(target: Path) -> None:
    _kernel("proc", target, 0)
    # kernel parameters of the network namespace are the instance's own, all others are the machine's
    for name, read_only in (("sys", True), ("sys/net", False), ("irq", True), ("bus", True), ("fs", True)):
        path = target / name
        if not path.exists():
            continue
        syscalls.mount(os.fspath(path), path, flags=syscalls.MS_BIND | syscalls.MS_REC)
        syscalls.set_read_only(path, read_only)
    for name in ("sysrq-trigger", "kcore", "keys", "timer_list", "kmsg"):
        path = target / name
        if path.exists():
            syscalls.mount("/dev/null", path, flags=syscalls.MS_BIND)


def _kernel(kind: str, target: Path, flags: int) -> None:
    target.mkdir(exist_ok=True)
    flags |= syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC
    syscalls.mount(kind, target, kind, flags)
