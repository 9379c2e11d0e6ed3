"""Linux system calls for namespaces and mounts that Python 3.11's os module has no function for.

Every function raises OSError with the kernel's errno. Constants are those of the man pages named.
"""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from typing import NoReturn

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

# prctl(2)
_PR_CAPBSET_DROP = 24

# numbers of system calls newer than 5.1 are the same on every architecture; pivot_root is in every libc we run on
_SYS_MOUNT_SETATTR = 442
_AT_FDCWD = -100
_AT_RECURSIVE = 0x8000
_MOUNT_ATTR_RDONLY = 0x1

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
    result = _libc.syscall(
        ctypes.c_long(_SYS_MOUNT_SETATTR),
        ctypes.c_int(_AT_FDCWD),
        os.fsencode(target),
        ctypes.c_uint(_AT_RECURSIVE if recursive else 0),
        ctypes.byref(attributes),
        ctypes.c_size_t(ctypes.sizeof(attributes)),
    )
    if result != 0:
        _fail(f"mount_setattr {target}")


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
