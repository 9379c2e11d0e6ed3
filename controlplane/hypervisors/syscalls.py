"""Linux system calls for namespaces and mounts that Python 3.11's os module has no function for.

Every function raises OSError with the kernel's errno. Constants are those of the man pages named.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

# unshare(2), setns(2)
CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

# mount(2)
MS_RDONLY = 0x1
MS_NOSUID = 0x2
MS_NODEV = 0x4
MS_NOEXEC = 0x8
MS_REMOUNT = 0x20
MS_BIND = 0x1000
MS_REC = 0x4000
MS_PRIVATE = 0x40000

# umount2(2)
MNT_DETACH = 0x2
UMOUNT_NOFOLLOW = 0x8

# prctl(2)
_PR_CAPBSET_DROP = 24

# numbers of system calls newer than 5.1 are the same on every architecture; pivot_root is in every libc we run on
_SYS_OPEN_TREE, _SYS_MOVE_MOUNT, _SYS_FSOPEN, _SYS_FSCONFIG, _SYS_FSMOUNT = 428, 429, 430, 431, 432
_SYS_MOUNT_SETATTR = 442
_AT_FDCWD = -100
_AT_RECURSIVE = 0x8000
_MOUNT_ATTR_RDONLY, _MOUNT_ATTR_NOSUID, _MOUNT_ATTR_NODEV, _MOUNT_ATTR_NOEXEC = 0x1, 0x2, 0x4, 0x8
_OPEN_TREE_CLONE = 0x1
_MOVE_MOUNT_F_EMPTY_PATH = 0x4
_FSOPEN_CLOEXEC = _FSMOUNT_CLOEXEC = 0x1
_FSCONFIG_SET_FLAG, _FSCONFIG_SET_STRING, _FSCONFIG_CMD_CREATE = 0, 1, 6

_libc = ctypes.CDLL(None, use_errno=True)


class _MountAttributes(ctypes.Structure):
    _fields_ = (
        ("attr_set", ctypes.c_uint64),
        ("attr_clr", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("userns_fd", ctypes.c_uint64),
    )


def _fail(what: str) -> NoReturn:
    number = ctypes.get_errno()
    raise OSError(number, f"{what}: {os.strerror(number)}")


def unshare(flags: int) -> None:
    """Give the calling thread new namespaces (unshare(2))."""
    if _libc.unshare(flags) != 0:
        _fail("unshare")


def setns(descriptor: int, kind: int) -> None:
    """Move the calling thread into the namespace behind ``descriptor`` (setns(2))."""
    if _libc.setns(descriptor, kind) != 0:
        _fail("setns")


def mount(source: str, target: Path, kind: str = "", flags: int = 0, options: str = "") -> None:
    """mount(2)."""
    result = _libc.mount(
        source.encode(), os.fsencode(target), kind.encode() or None, ctypes.c_ulong(flags), options.encode() or None
    )
    if result != 0:
        _fail(f"mount {kind or source} on {target}")


def set_read_only(target: Path, on: bool, *, recursive: bool = False) -> None:
    """Make the mount at ``target`` read-only or writable, all below it too if asked (mount_setattr(2), Linux 5.12)."""
    attributes = _MountAttributes(**{"attr_set" if on else "attr_clr": _MOUNT_ATTR_RDONLY})
    _call(
        f"mount_setattr {target}",
        _SYS_MOUNT_SETATTR,
        ctypes.c_int(_AT_FDCWD),
        os.fsencode(target),
        ctypes.c_uint(_AT_RECURSIVE if recursive else 0),
        ctypes.byref(attributes),
        ctypes.c_size_t(ctypes.sizeof(attributes)),
    )


def detached(kind: str, options: Mapping[str, str | None]) -> int:
    """A descriptor of a new mount of a file system that is nowhere yet (fsopen(2), fsmount(2), Linux 5.2).

    ``options``: name -> value, None for a flag. It may be used by nobody's setuid bits, devices and programs. Closing
    the descriptor before ``move_mount`` unmounts it.
    """
    context = _call("fsopen", _SYS_FSOPEN, kind.encode(), ctypes.c_uint(_FSOPEN_CLOEXEC))

    def configure(command: int, key: str | None = None, value: str | None = None) -> None:
        words = (None if word is None else word.encode() for word in (key, value))
        _call(f"fsconfig {key}", _SYS_FSCONFIG, ctypes.c_int(context), ctypes.c_uint(command), *words, ctypes.c_int(0))

    try:
        for key, value in options.items():
            configure(_FSCONFIG_SET_FLAG if value is None else _FSCONFIG_SET_STRING, key, value)
        configure(_FSCONFIG_CMD_CREATE)
        attributes = _MOUNT_ATTR_NOSUID | _MOUNT_ATTR_NODEV | _MOUNT_ATTR_NOEXEC
        flags = ctypes.c_uint(_FSMOUNT_CLOEXEC)
        return _call(f"mount {kind}", _SYS_FSMOUNT, ctypes.c_int(context), flags, ctypes.c_uint(attributes))
    finally:
        os.close(context)


def clone_mount(path: Path) -> int:
    """A descriptor of a mount of the file or directory ``path``, nowhere yet (open_tree(2), Linux 5.2)."""
    flags = ctypes.c_uint(_OPEN_TREE_CLONE | os.O_CLOEXEC)
    return _call(f"open_tree {path}", _SYS_OPEN_TREE, ctypes.c_int(_AT_FDCWD), os.fsencode(path), flags)


def move_mount(descriptor: int, target: Path) -> None:
    """Mount what ``detached`` or ``clone_mount`` gave on ``target`` (move_mount(2), Linux 5.2)."""
    to = ctypes.c_int(_AT_FDCWD), os.fsencode(target)
    flags = ctypes.c_uint(_MOVE_MOUNT_F_EMPTY_PATH)
    _call(f"mount on {target}", _SYS_MOVE_MOUNT, ctypes.c_int(descriptor), b"", *to, flags)


def _call(what: str, number: int, *arguments: Any) -> int:
    result = int(_libc.syscall(ctypes.c_long(number), *arguments))
    if result < 0:
        _fail(what)
    return result


def unmount(target: Path, flags: int = 0) -> None:
    """umount2(2)."""
    if _libc.umount2(os.fsencode(target), flags) != 0:
        _fail(f"umount {target}")


def pivot_root(new_root: Path) -> None:
    """Make ``new_root``, a mount point, the root and detach the old one (pivot_root(2), NOTES)."""
    os.chdir(new_root)
    if _libc.pivot_root(b".", b".") != 0:
        _fail(f"pivot_root {new_root}")
    unmount(Path(), MNT_DETACH)
    os.chdir("/")


def drop_capability(number: int) -> None:
    """Take a capability out of the bounding set for good (capabilities(7))."""
    if _libc.prctl(_PR_CAPBSET_DROP, ctypes.c_ulong(number), 0, 0, 0) != 0:
        _fail(f"prctl PR_CAPBSET_DROP {number}")
