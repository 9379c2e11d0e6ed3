"""Volumes as disks of guests: files ``/dev/vdb`` and so on that are images of disks.

qemu-storage-daemon has the qcow2 file open and serves what is in it through FUSE as one file of a fixed size, which is
mounted into the guest. So nothing of the kernel looks at what a tenant wrote, and guests that are programs of this
machine read and write it as they would a block device; they cannot mount it.

A daemon is in namespaces of its own without network, where it sees /usr and this one volume, is a user of its own and
has no privileges: /dev/fuse is opened and mounted by us, and it is given the descriptor. What it runs for is in its
folder ``disks/NAME`` of the instance, written before it is started and removed after it has ended.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict
from pathlib import Path

from appliance.qemuimg import ARENAS, MEMORY, STACK
from controlplane.hypervisors import syscalls
from controlplane.hypervisors.base import GuestDisk, HypervisorError
from controlplane.hypervisors.namespace import boot, inside, qmp
from controlplane.hypervisors.namespace.launch import Launch
from controlplane.hypervisors.namespace.layout import programs
from controlplane.hypervisors.namespace.mounts import Mount
from controlplane.hypervisors.namespace.processes import PROCESS, Process, ends, running, terminate
from controlplane.hypervisors.records import remove_tree, write_atomically
from controlplane.hypervisors.volumes import User, Volumes, powerless, problem_of

log = logging.getLogger(__name__)

PROGRAM = "qemu-storage-daemon"
#: user and group of daemons where there are several: the number that Debian keeps for QEMU (base-passwd: libvirt-qemu)
QEMU = 64055
#: in a daemon's folder
_DISK, _MONITOR, _LOG = "disk.json", "qmp", "log"
#: in a daemon's root: the volume, and what it is copied to
_VOLUME, _TARGET = "/volume", "/target"
#: names in a daemon (QMP's node-name and id): what the guest has, the qcow2 image below it, a copy on its way
_NODE, _IMAGE, _COPY = "disk", "image", "copy"
#: seconds for a daemon to write what it has in memory
_GRACE = 10.0
#: seconds between looks at a copy on its way
_LOOK = 0.1
#: times that a size is set, should the guest set one at the same moment
_SIZES = 5

#: starts a launch (starting.start) with these descriptors
Start = Callable[[Launch, str, Sequence[int]], None]


class Disks:
    """The disks of all guests of a data directory. ``folder`` is where an instance has its files.

    Who calls sees to it that calls about one guest take turns; ``copy`` may go on beside others.
    """

    def __init__(self, folder: Callable[[str], Path], volumes: Volumes, start: Start) -> None:
        self._folder_of, self._volumes, self._start = folder, volumes, start

    def begin(self, instance_id: str, disk: GuestDisk) -> int:
        """Start the daemon of a disk. A descriptor of the mount for the guest, see ``shown``. HypervisorError."""
        folder = self._folder_of(instance_id) / "disks" / disk.name
        self._end(folder)
        if shutil.which(PROGRAM) is None:
            raise HypervisorError(f"volumes need {PROGRAM}; install Debian's qemu-system-common")
        user, size = daemon_user(), self._volumes.size(disk.path)
        with ExitStack() as opened:
            device, mount = _fuse(user)
            opened.callback(os.close, device)
            try:
                (folder / "root").mkdir(mode=0o700, parents=True)
                (folder / "empty").touch()
                write_atomically(folder / _DISK, json.dumps(asdict(disk), default=str))
                monitor = opened.enter_context(qmp.listen(folder / _MONITOR))
                os.chown(disk.path, *user)
                launch = _launch(folder, disk, size, device, monitor.fileno())
                self._start(launch, f"the daemon of volume {disk.path.stem}", (device, monitor.fileno()))
                monitor.close()
                self._wait_until_ready(folder, disk)
            except BaseException as error:
                os.close(mount)
                self._end(folder)
                if isinstance(error, OSError):
                    raise HypervisorError(f"volume {disk.path.stem} cannot be attached: {error}") from error
                raise
        return mount

    def _wait_until_ready(self, folder: Path, disk: GuestDisk) -> None:
        try:
            qmp.execute(folder / _MONITOR)
        except HypervisorError as error:
            said = (folder / _LOG).read_text(errors="replace").strip() or str(error)
            raise HypervisorError(f"volume {disk.path.stem} cannot be opened: {said[-500:]}") from error

    def attach(self, instance_id: str, process_id: int, disk: GuestDisk) -> None:
        """Give a guest that runs, whose PID 1 is ``process_id``, a disk; nothing to do when it has it."""
        folder = self._folder_of(instance_id) / "disks" / disk.name
        if _read(folder) == disk and running(folder) and inside.mounted(process_id, _device(disk)):
            return
        mount = self.begin(instance_id, disk)
        try:
            inside.change(process_id, _names(disk), shown(disk, mount), descriptors=(mount,))
        except BaseException:
            self._end(folder)
            raise
        finally:
            os.close(mount)

    def detach(self, instance_id: str, process_id: int | None, path: Path) -> None:
        """Take the disk with the volume ``path`` from a guest; ``process_id`` is None when that does not run."""
        for folder in self._folders(instance_id):
            disk = _read(folder)
            if disk is None or disk.path != path:
                continue
            if process_id is not None:
                try:
                    inside.change(process_id, _names(disk))
                except HypervisorError as error:
                    # the guest keeps a name of what is not there any more
                    log.warning("%s of %s: %s", disk.name, instance_id, error)
            self._end(folder)

    def resize(self, instance_id: str, path: Path, size: int) -> None:
        """Give a disk of a guest that runs more bytes."""
        folder = self._having(instance_id, path)
        for _ in range(_SIZES):
            # a disk of a fixed size has it for good; while it has none the guest can change it (truncate(2))
            try:
                qmp.execute(
                    folder / _MONITOR,
                    ("blockdev-reopen", {"options": [_fixed(None)]}),
                    ("block_resize", {"node-name": _NODE, "size": size}),
                    ("blockdev-reopen", {"options": [_fixed(size)]}),
                )
            except HypervisorError as error:
                log.warning("resizing %s: %s", path, error)
                continue
            if self._volumes.size(path) == size:
                return
        self._end(folder)
        raise HypervisorError("the disk did not keep its new size and was unplugged; stop the guest, then resize it")

    def copy(self, instance_id: str, path: Path, target: Path) -> None:
        """Copy a disk of a guest that runs as it is now to the new file ``target``; the guest goes on meanwhile."""
        folder = self._having(instance_id, path)
        process = running(folder)
        if process is None:
            raise HypervisorError("the daemon of the volume has ended; detach the volume and attach it again")
        # of a control plane that ended
        self._end_copy(folder, process)
        self._volumes.remove(target)
        try:
            self._volumes.create(target, self._volumes.size(path))
            os.chown(target, *daemon_user())
            mount = syscalls.clone_mount(target)
            try:
                shown = (Mount("detached", _TARGET, str(mount)),)
                inside.change(process.pid, (_TARGET,), shown, descriptors=(mount,))
            finally:
                os.close(mount)
            options = {"device": _NODE, "target": _COPY, "job-id": _COPY, "sync": "full", "auto-dismiss": False}
            qmp.execute(folder / _MONITOR, ("blockdev-add", _qcow2(_COPY, _TARGET)), ("blockdev-backup", options))
            self._wait_for_copy(folder)
        except BaseException:
            self._end_copy(folder, process)
            self._volumes.remove(target)
            raise
        self._end_copy(folder, process)

    def _wait_for_copy(self, folder: Path) -> None:
        while True:
            [jobs] = qmp.execute(folder / _MONITOR, ("query-jobs", {}))
            job = next((job for job in jobs if job["id"] == _COPY), None)
            if job is None:
                raise HypervisorError("the copy was cut off")
            if job["status"] == "concluded":
                if "error" in job:
                    raise HypervisorError(problem_of(job["error"]) or f"copying the volume: {job['error']}")
                return
            time.sleep(_LOOK)

    def _end_copy(self, folder: Path, process: Process) -> None:
        """Leave nothing of a copy in the daemon, however far it came."""
        monitor = folder / _MONITOR
        with suppress(HypervisorError):
            qmp.execute(monitor, ("job-cancel", {"id": _COPY}))
            with suppress(HypervisorError):
                self._wait_for_copy(folder)
        for command in (("job-dismiss", {"id": _COPY}), ("blockdev-del", {"node-name": _COPY})):
            with suppress(HypervisorError):
                qmp.execute(monitor, command)
        if inside.mounted(process.pid, _TARGET):
            with suppress(HypervisorError):
                inside.change(process.pid, (_TARGET,))

    def adopt(self, instance_id: str, process_id: int | None) -> None:
        """Make whole, or remove of a guest that does not run, what a control plane that ended had begun."""
        for folder in self._folders(instance_id):
            disk = _read(folder)
            if disk is None or process_id is None:
                self._end(folder)
                continue
            try:
                self.attach(instance_id, process_id, disk)
            except HypervisorError as error:
                log.error("%s is without its disk %s: %s", instance_id, disk.name, error)

    def clear(self, instance_id: str) -> None:
        """Nobody has the disks of a guest, which does not run."""
        for folder in self._folders(instance_id):
            self._end(folder)

    def _folders(self, instance_id: str) -> Iterator[Path]:
        directory = self._folder_of(instance_id) / "disks"
        if directory.is_dir():
            yield from sorted(directory.iterdir())

    def _having(self, instance_id: str, path: Path) -> Path:
        for folder in self._folders(instance_id):
            disk = _read(folder)
            if disk is not None and disk.path == path:
                return folder
        raise HypervisorError(f"{instance_id} does not have that disk")

    def _end(self, folder: Path) -> None:
        """End a daemon, which writes what it has in memory first, and remove its folder."""
        process = running(folder)
        if process is not None:
            with suppress(HypervisorError):
                qmp.execute(folder / _MONITOR, ("quit", {}))
            if not ends(process, _GRACE):
                log.warning("the daemon of %s does not end by itself: killed", folder)
                terminate(process, 0)
        if folder.exists():
            remove_tree(folder)


def shown(disk: GuestDisk, mount: int) -> tuple[Mount, ...]:
    """The mounts that a guest has of a disk, once each; ``mount`` is what ``begin`` gave."""
    named = [Mount("symlink", name, f"../../{disk.name}") for name in _names(disk)[1:]]
    return (Mount("detached", _device(disk), str(mount)), *named)


def daemon_user() -> User:
    """User and group of daemons, and of the files that they have open; root's of a user namespace without others."""
    there = all(_maps(Path(f"/proc/self/{kind}_map").read_text(), QEMU) for kind in ("uid", "gid"))
    return (QEMU, QEMU) if there else (0, 0)


def _maps(table: str, number: int) -> bool:
    """Whether a user namespace has a user of that number (user_namespaces(7): uid_map)."""
    ranges = ([int(word) for word in line.split()] for line in table.splitlines())
    return any(first <= number < first + count for first, _, count in ranges)


def _device(disk: GuestDisk) -> str:
    return f"/dev/{disk.name}"


def _names(disk: GuestDisk) -> tuple[str, ...]:
    """Files of a disk in its guest; they are named as udev names a virtio disk."""
    return (_device(disk), *((f"/dev/disk/by-id/virtio-{disk.serial}",) if disk.serial else ()))


def _fuse(user: User) -> tuple[int, int]:
    """Descriptors of /dev/fuse and of a mount of the file that whoever reads from it will serve."""
    options = {"rootmode": f"{0o100000:o}", "user_id": str(user[0]), "group_id": str(user[1]), "max_read": str(1 << 20)}
    device = None
    try:
        device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
        flags = {"default_permissions": None, "allow_other": None}
        return device, syscalls.detached("fuse", {"source": "volume", "fd": str(device), **options, **flags})
    except OSError as error:
        if device is not None:
            os.close(device)
        raise HypervisorError(
            f"guests have volumes through FUSE, which this machine does not do: {error}; load its module (modprobe "
            "fuse), or attach volumes to virtual machines (gatehouse serve --hypervisor libvirt)"
        ) from error


def _launch(folder: Path, disk: GuestDisk, size: int, device: int, monitor: int) -> Launch:
    limits = ["prlimit", f"--as={MEMORY}", f"--stack={STACK}", "--core=0", "--nofile=64", "--"]
    argv = powerless([*limits, PROGRAM, *arguments(size, device, monitor)], daemon_user())
    return Launch(
        hostname="volume",
        root=str(folder / "root"),
        mounts=layout(disk.path, folder / "empty", device),
        argv=(f"/usr/bin/{argv[0]}", *argv[1:]),
        environment={**boot.environment(), "MALLOC_ARENA_MAX": str(ARENAS)},
        process_file=str(folder / PROCESS),
        log=str(folder / _LOG),
    )


def layout(volume: Path, empty: Path, device: int) -> tuple[Mount, ...]:
    """The root of a daemon. ``empty`` is a file."""
    return (
        Mount("tmpfs", "/", megabytes=1),
        Mount("bind", "/usr", "/usr", read_only=True),
        *programs(),
        Mount("bind", "/dev/null", "/dev/null", read_only=True),
        # a daemon mounts on a file; libfuse takes one of this name for the descriptor, and mounts nothing
        Mount("bind", f"/dev/fd/{device}", str(empty), read_only=True),
        Mount("bind", _VOLUME, str(volume)),
    )


def arguments(size: int, device: int, monitor: int) -> list[str]:
    """How a daemon is run on a volume of ``size`` bytes; ``device`` and ``monitor`` are its descriptors."""
    nodes = (_qcow2(_IMAGE, _VOLUME), _fixed(size))
    what = ["type=fuse", "id=guest", f"node-name={_NODE}", f"mountpoint=/dev/fd/{device}"]
    how = ["writable=on", "growable=off", "allow-other=on"]
    return [
        *("--chardev", f"socket,id=monitor,server=on,wait=off,fd={monitor}", "--monitor", "monitor"),
        *(word for node in nodes for word in ("--blockdev", json.dumps(node))),
        *("--export", ",".join([*what, *how])),
    ]


def _qcow2(name: str, path: str) -> dict[str, object]:
    """A qcow2 image, which refers to no other file (QMP: BlockdevOptions)."""
    file = {"driver": "file", "filename": path, "discard": "unmap"}
    return {"driver": "qcow2", "node-name": name, "file": file, "backing": None, "discard": "unmap"}


def _fixed(size: int | None) -> dict[str, object]:
    """What is above the image: as long as it has a size, it keeps it."""
    return {"driver": "raw", "node-name": _NODE, "file": _IMAGE} | ({} if size is None else {"size": size})


def _read(folder: Path) -> GuestDisk | None:
    """What a daemon was started for; None when it cannot have been started."""
    try:
        raw = json.loads((folder / _DISK).read_text())
        return GuestDisk(**{**raw, "path": Path(raw["path"])})
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
