"""Volumes: qcow2 files in pools, which are directories (guide: chapter 13).

A pool has ``volumes/``, ``snapshots/`` and a file that says whose it is. A file appears under its name when it is whole
and on the disk; what a crash left half made has another name, and is made anew. Everything may be done twice.

Contents are tenants': qemu-img reads them as the user that QEMU runs as, without privileges and network, with limits of
memory and time, and is always told the format. What it could be made to do, the guest's own QEMU could as well.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from appliance.errors import CommandError
from appliance.files import sync_directory
from appliance.qemuimg import CONVERT_SECONDS, INFO_SECONDS, limited
from appliance.run import run
from controlplane.hypervisors.base import HypervisorError
from controlplane.hypervisors.records import MARK, write_atomically

FOLDERS = ("volumes", "snapshots")
#: magic, version, backing file's place and length, cluster bits, size (qcow2's specification, header)
_HEADER = struct.Struct(">4sIQIIQ")

#: user_namespaces(7)
_SETGROUPS = Path("/proc/self/setgroups")

#: user and group
User = tuple[int, int]


@dataclass(frozen=True)
class Space:
    """Bytes of a pool's file system."""

    total: int
    used: int


class Volumes:
    """The qcow2 files of one control plane. ``owner`` marks its pools; ``user`` is whom QEMU runs as."""

    def __init__(self, owner: str, user: Callable[[], User]) -> None:
        self._owner, self._user = owner, user

    def prepare_pool(self, pool: Path) -> None:
        """Make a directory a pool. Raises HypervisorError when it cannot be one, or is another control plane's."""
        try:
            pool.mkdir(mode=0o711, parents=True, exist_ok=True)
            mark = pool / MARK
            if mark.exists() and mark.read_text() != self._owner:
                raise HypervisorError(f"{pool} is a storage pool of another control plane; give another directory")
            for name in FOLDERS:
                (pool / name).mkdir(exist_ok=True)
                # QEMU's user goes through to what is its own
                (pool / name).chmod(0o711)
            write_atomically(mark, self._owner)
        except OSError as error:
            raise HypervisorError(f"{pool} cannot be a storage pool: {error}") from error

    def space(self, pool: Path) -> Space:
        """Raises HypervisorError when the directory is not there."""
        try:
            found = os.statvfs(pool)
        except OSError as error:
            raise HypervisorError(f"storage pool {pool} is not there: {error}") from error
        total = found.f_blocks * found.f_frsize
        return Space(total, total - found.f_bavail * found.f_frsize)

    def size(self, path: Path) -> int:
        """Bytes of the disk in a qcow2 file, from its header. Raises HypervisorError for what is none."""
        try:
            with path.open("rb") as file:
                head = file.read(_HEADER.size)
        except OSError as error:
            raise HypervisorError(f"the volume's file cannot be read: {error}") from error
        if len(head) < _HEADER.size or head[:4] != b"QFI\xfb":
            raise HypervisorError(f"{path} is no qcow2 image")
        return int(_HEADER.unpack(head)[-1])

    def used(self, path: Path) -> int:
        """Bytes that a file takes of its pool; 0 when there is none."""
        try:
            return path.stat().st_blocks * 512
        except FileNotFoundError:
            return 0

    def create(self, path: Path, size: int) -> None:
        """An empty disk of ``size`` bytes."""
        if not path.exists():
            self._make(path, lambda fresh: ["create", "-q", "-f", "qcow2", str(fresh), str(size)], INFO_SECONDS)

    def overlay(self, path: Path, backing: Path, size: int = 0) -> int:
        """A disk that begins as ``backing`` and has at least ``size`` bytes; how many it has."""
        if path.exists():
            return self.size(path)
        if not backing.stat().st_mode & 0o004:
            # copies of the disk read it as QEMU's user
            backing.chmod(backing.stat().st_mode | 0o044)
        bytes_ = max(size, self.size(backing))
        # the backing file is not opened: there is nothing to be read of it for that
        words = ["create", "-q", "-u", "-f", "qcow2", "-F", "qcow2", "-b", str(backing)]
        self._make(path, lambda fresh: [*words, str(fresh), str(bytes_)], INFO_SECONDS)
        return bytes_

    def copy(self, source: Path, target: Path) -> None:
        """The disk in ``source``, which nothing writes to, as a file of its own that refers to no other."""
        if target.exists():
            return
        self._give(source)
        words = ["convert", "-q", "-f", "qcow2", "-O", "qcow2", str(source)]
        self._make(target, lambda fresh: [*words, str(fresh)], CONVERT_SECONDS)

    def replace(self, path: Path, fresh: Path) -> None:
        """Make the file ``fresh`` of the same folder the disk at ``path``, which nothing uses."""
        fresh.rename(path)
        sync_directory(path.parent)

    def resize(self, path: Path, size: int, *, shrink: bool = False) -> None:
        """Give a disk that nothing uses another size. What is cut off is lost."""
        self._give(path)
        words = ["resize", "-q", "-f", "qcow2", *(["--shrink"] if shrink else []), str(path), str(size)]
        if self.size(path) != size:
            self._run(words, INFO_SECONDS if not shrink else CONVERT_SECONDS)

    def remove(self, path: Path) -> None:
        """Remove a file, and what was left half made of it."""
        for gone in (path, _fresh(path)):
            gone.unlink(missing_ok=True)

    def _make(self, path: Path, words: Callable[[Path], Sequence[str]], seconds: int) -> None:
        fresh = _fresh(path)
        fresh.unlink(missing_ok=True)
        handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.fchown(handle, *self._user())
            self._run(words(fresh), seconds)
            os.fsync(handle)
        except BaseException:
            fresh.unlink(missing_ok=True)
            raise
        finally:
            os.close(handle)
        self.replace(path, fresh)

    def _give(self, path: Path) -> None:
        """Make a file that was libvirt's QEMU's user's again; libvirt gives it to root when a guest stops."""
        with suppress(PermissionError):
            os.chown(path, *self._user())

    def _run(self, words: Sequence[str], seconds: int) -> None:
        command = limited(words, seconds)
        if os.geteuid() == 0:
            command = ["unshare", "--net", "--", *powerless(command, self._user())]
        try:
            run(command, timeout=seconds)
        except CommandError as error:
            problem = problem_of(str(error)) or f"qemu-img {words[0]} failed: {error.stderr.strip()}"
            raise HypervisorError(problem) from error


def powerless(argv: Sequence[str], user: User) -> list[str]:
    """The command ``argv`` as ``user`` with no capability, for a caller who is root."""
    rights = ["--no-new-privs", _groups(), "--inh-caps=-all", "--bounding-set=-all"]
    return ["setpriv", f"--reuid={user[0]}", f"--regid={user[1]}", *rights, "--", *argv]


def problem_of(said: str) -> str:
    """What an operator can do about what QEMU's programs said; "" when it is none of the usual."""
    if "No space left" in said:
        return "the storage pool is full; make room in it, then try again"
    if re.search("Failed to get .*lock", said):
        return "a virtual machine is using the volume; stop it, or detach the volume"
    return ""


def _groups() -> str:
    """How setpriv(1) is to treat groups: a user namespace of one user has no others, and cannot say so (setgroups)."""
    return "--keep-groups" if _SETGROUPS.read_text().strip() == "deny" else "--clear-groups"


def _fresh(path: Path) -> Path:
    return path.with_name(f"{path.name}.new")
