"""The namespace hypervisor: appliances and guests as namespaces of this machine (see base.Hypervisor).

All state is on disk (records, PID 1 of each instance) or in the kernel (processes, the fabric), so a control plane
that starts again, or a second process that only looks, sees the same as the one that made it.
"""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import socket
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import IO

from controlplane.hypervisors import load
from controlplane.hypervisors.base import (
    ApplianceSpec,
    ConsoleTarget,
    GuestDisk,
    GuestSpec,
    HostFacts,
    HypervisorError,
    Instance,
    Nic,
    Power,
    Segment,
)
from controlplane.hypervisors.bridges import port_name
from controlplane.hypervisors.namespace import boot, enter, layout
from controlplane.hypervisors.namespace.cgroups import Cgroups
from controlplane.hypervisors.namespace.disks import Disks, shown
from controlplane.hypervisors.namespace.fabric import Fabric
from controlplane.hypervisors.namespace.launch import Launch
from controlplane.hypervisors.namespace.mounts import Mount, in_user_namespace
from controlplane.hypervisors.namespace.processes import PROCESS, Process, recorded, running, terminate
from controlplane.hypervisors.namespace.starting import start
from controlplane.hypervisors.policy import Policy
from controlplane.hypervisors.portfilter.model import Port as FilterPort
from controlplane.hypervisors.portfilter.model import port_of
from controlplane.hypervisors.portfilter.portfilter import PortFilter
from controlplane.hypervisors.records import Record, Records
from controlplane.hypervisors.volumes import Volumes

log = logging.getLogger(__name__)

CONSOLE_LOG = "console.log"
#: bytes; beyond it the log starts again
CONSOLE_LOG_LIMIT = 4 << 20
#: seconds between asking an instance to stop and making it
GRACE = 3.0
#: seconds until what an owner that died had begun must have ended: its forks, and its launches
CLAIM_PATIENCE, LAUNCH_PATIENCE = 1.0, 15.0


class NamespaceHypervisor:
    """One data directory's instances and their networks.

    ``directory`` is its own (mode 0700). ``data`` is the control plane's data directory, of which no instance sees
    anything (default: ``directory``). ``guest_paths`` of the machine are shown to guests, read-only.
    """

    name = "Namespace"

    def __init__(self, directory: Path, *, data: Path | None = None, guest_paths: Sequence[Path] = ()) -> None:
        self.directory = directory.absolute()
        self._data = (data or directory).absolute()
        self._guest_paths = tuple(layout.uncovered(list(guest_paths)))
        self._records = Records(self.directory / "instances")
        self._fabric = Fabric(self.directory / "fabric")
        self._filter = PortFilter(self._fabric.call, self.directory / "policy.json", own=True)
        self._cgroups = Cgroups(self.directory)
        self._python = layout.this_python()
        self._one_user = in_user_namespace() and not _many_users()
        self._locks: defaultdict[str, threading.RLock] = defaultdict(threading.RLock)
        self._base = self.directory / "guest-base"
        self._base_lock = threading.Lock()
        self._owner: IO[bytes] | None = None
        self._meter = load.Meter()
        self.volumes = Volumes(str(self.directory), lambda: (os.geteuid(), os.getegid()))
        self._disks = Disks(self._records.folder, self.volumes, self._run)
        #: one copy of a guest's disks at a time
        self._copying: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)

    # --- life of the hypervisor -------------------------------------------------------------------------------

    def open(self) -> None:
        """Make ready: adopt what runs, remove what a crash left half made. One process at a time owns a directory."""
        if self._owner is not None:
            return
        self._records.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._owner = self._claim()
        try:
            self._wait_for_launches()
            self._fabric.open()
            self._records.sweep()
            self._adopt()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Leave everything running and give up ownership."""
        self._fabric.close()
        if self._owner is not None:
            self._owner.close()
            self._owner = None

    def purge(self) -> None:
        """Destroy every instance and the fabric: afterwards nothing of this hypervisor is left on the machine."""
        for instance_id in list(self._records.ids()):
            self.destroy(instance_id)
        self._fabric.remove()
        self._cgroups.remove_all()
        shutil.rmtree(self._base, ignore_errors=True)
        self.close()

    def _claim(self) -> IO[bytes]:
        # a child of an owner that was killed has the lock too, until it executes its program
        return _lock(
            self.directory / "lock",
            CLAIM_PATIENCE,
            f"{self.directory} is in use by another control plane; stop that first",
        )

    @contextmanager
    def _fence(self) -> Iterator[int]:
        """A descriptor for one launch, with a shared lock as long as any process of the launch has it open."""
        with (self.directory / "launches").open("wb") as file:
            fcntl.flock(file, fcntl.LOCK_SH)
            yield file.fileno()

    def _wait_for_launches(self) -> None:
        """Wait until launches that an earlier owner began have ended, one way or the other."""
        path = self.directory / "launches"
        problem = f"instances that an earlier control plane began to start do not end; end what has {path} open"
        _lock(path, LAUNCH_PATIENCE, problem).close()

    def _adopt(self) -> None:
        alive: dict[str, tuple[Record, int]] = {}
        for instance_id in list(self._records.ids()):
            record = self._readable(instance_id)
            if record is None:
                continue
            process_id = self._running(instance_id)
            if process_id is None:
                self._disks.clear(instance_id)
                continue
            log.info("adopting %s %s (process %d)", record.kind, instance_id, process_id)
            alive[instance_id] = (record, process_id)
        ports: dict[str, FilterPort] = {}
        for record, _ in alive.values():
            ports.update({port_name(record.id, nic.mac): _filter_port(record, nic) for nic in record.nics})
        self._filter.open(ports)
        # attaching or detaching may have been cut off half-way: the record says what must be
        for record, process_id in alive.values():
            for number, nic in enumerate(record.nics):
                self._fabric.plug(record.id, nic, process_id, f"eth{number}")
        self._fabric.set_rates([(record.id, nic) for record, _ in alive.values() for nic in record.nics])
        for record, process_id in alive.values():
            self._disks.adopt(record.id, process_id)
        for port in self._fabric.ports():
            if port not in ports:
                self._fabric.delete_port(port)
        known = set(self._records.ids())
        for instance_id in self._cgroups.ids():
            if instance_id not in known:
                self._cgroups.remove(instance_id)

    # --- segments -----------------------------------------------------------------------------------------------

    def ensure_segment(self, segment: Segment) -> None:
        self._fabric.ensure_segment(segment)

    def remove_segment(self, name: str) -> None:
        for instance_id in self._records.ids():
            record = self._readable(instance_id)
            if record and any(nic.segment == name for nic in record.nics) and self.power(instance_id) == "running":
                raise HypervisorError(f"segment {name} is in use by {instance_id}; stop or detach it first")
        self._fabric.remove_segment(name)

    def segments(self) -> list[str]:
        """Names of all segments."""
        return list(self._fabric.segments())

    # --- starting -------------------------------------------------------------------------------------------------

    def start_appliance(self, spec: ApplianceSpec) -> None:
        record = Record(spec.id, "appliance", spec.hostname, spec.nics, spec.cpus, spec.memory_mb)

        def prepare(folder: Path) -> tuple[Mount, ...]:
            inittab = boot.appliance_inittab(self._python.executable)
            boot.prepare_appliance(
                folder, spec.id, spec.hostname, inittab, dict(spec.identity), one_user=self._one_user
            )
            return layout.appliance(folder, self._data, self._python, spec.memory_mb, spec.shares)

        self._start(record, prepare)

    def start_guest(self, spec: GuestSpec) -> None:
        if spec.template not in boot.TEMPLATES:
            known = ", ".join(sorted(boot.TEMPLATES))
            raise HypervisorError(f"there is no guest template {spec.template}; known are {known}")
        record = Record(spec.id, "guest", spec.hostname, spec.nics, spec.cpus, spec.memory_mb, spec.template)

        def prepare(folder: Path) -> tuple[Mount, ...]:
            with self._base_lock:
                boot.make_base(self._base, one_user=self._one_user)
            boot.prepare_guest(folder, spec.id, spec.hostname, spec.template)
            return layout.guest(folder, self._base, self._data, self._guest_paths, spec.memory_mb)

        # the root disk is a tree of files
        self._start(record, prepare, [disk for disk in spec.disks if disk.device])

    def images(self) -> Path:
        return self.directory / "images"

    def has_template(self, name: str) -> bool:
        return name in boot.TEMPLATES

    def add_template(self, name: str, image: Path) -> None:
        raise HypervisorError(
            "guests of the namespace hypervisor are no virtual machines and boot no image; deploy from builtin or "
            "bare, or run the control plane with --hypervisor libvirt"
        )

    def remove_template(self, name: str) -> None:
        return None

    def _start(
        self, record: Record, prepare: Callable[[Path], tuple[Mount, ...]], disks: Sequence[GuestDisk] = ()
    ) -> None:
        with self._turn(record.id):
            if self.power(record.id) == "running":
                return
            self._clear(record.id)
            self._records.save(record)
            folder = self._records.folder(record.id)
            (folder / "mnt").mkdir(exist_ok=True)
            try:
                with ExitStack() as opened:
                    mounts = prepare(folder)
                    descriptors = []
                    for disk in disks:
                        descriptors.append(descriptor := self._disks.begin(record.id, disk))
                        opened.callback(os.close, descriptor)
                        mounts += shown(disk, descriptor)
                    launch = Launch(
                        hostname=record.hostname,
                        root=str(folder / "mnt"),
                        mounts=mounts,
                        argv=("/usr/bin/busybox",),
                        environment=boot.environment(_python_variables()),
                        process_file=str(folder / PROCESS),
                        log=str(folder / CONSOLE_LOG),
                        cgroups=self._cgroups.prepare(record.id, record.memory_mb),
                    )
                    self._run(launch, f"{record.kind} {record.id}", descriptors, partial(self._plug_all, record))
            except BaseException:
                self._kill(record.id, 0)
                self._clear(record.id)
                raise

    def _run(
        self,
        launch: Launch,
        what: str,
        descriptors: Sequence[int],
        plug: Callable[[int], None] = lambda process_id: None,
    ) -> None:
        with self._fence() as fence:
            start(replace(launch, fence=fence), what, descriptors=descriptors, plug=plug)

    def _plug_all(self, record: Record, process_id: int) -> None:
        for number, nic in enumerate(record.nics):
            self._plug(record, nic, process_id, f"eth{number}")

    # --- stopping -------------------------------------------------------------------------------------------------

    def stop(self, instance_id: str, *, force: bool = False) -> None:
        with self._turn(instance_id):
            self._kill(instance_id, 0 if force else GRACE)
            self._clear(instance_id)

    def destroy(self, instance_id: str) -> None:
        with self._turn(instance_id):
            self._kill(instance_id, 0)
            self._clear(instance_id)
            self._records.remove(instance_id)

    def _kill(self, instance_id: str, grace: float) -> None:
        process = self._process(instance_id)
        if process is None:
            return
        try:
            terminate(process, grace)
        except TimeoutError as error:
            raise HypervisorError(f"{instance_id} does not stop: {error}") from error

    def _clear(self, instance_id: str) -> None:
        """Remove what a run of the instance had: ports (by its record), disks, control group, process file."""
        record = self._readable(instance_id)
        for nic in record.nics if record else ():
            self._unplug(instance_id, nic.mac)
        self._disks.clear(instance_id)
        self._cgroups.remove(instance_id)
        (self._records.folder(instance_id) / PROCESS).unlink(missing_ok=True)

    # --- disks ----------------------------------------------------------------------------------------------------

    @property
    def pool(self) -> Path:
        return self.directory / "storage"

    def make_root(self, path: Path, template: str, size: int) -> int:
        # a tree of files, made at each start (``prepare``)
        return 0

    def attach_disk(self, instance_id: str, disk: GuestDisk) -> None:
        with self._turn(instance_id):
            process_id = self._running(instance_id)
            if process_id is not None:
                self._disks.attach(instance_id, process_id, disk)

    def detach_disk(self, instance_id: str, path: Path) -> None:
        with self._turn(instance_id):
            self._disks.detach(instance_id, self._running(instance_id), path)

    def resize_disk(self, instance_id: str, path: Path, size: int) -> bool:
        with self._turn(instance_id):
            runs = self._running(instance_id) is not None
            if runs:
                self._disks.resize(instance_id, path, size)
            return runs

    def copy_disk(self, instance_id: str, path: Path, target: Path, *, quiesce: bool) -> bool:
        # it may take long, and the guest can be stopped meanwhile
        with self._copying[instance_id]:
            if self._running(instance_id) is None:
                return False
            if quiesce:
                raise HypervisorError(
                    "guests of the namespace hypervisor cannot be quiesced: no kernel has their file systems mounted; "
                    "leave quiescevm out, or stop the guest"
                )
            fresh = target.with_name(f"{target.name}.new")
            self._disks.copy(instance_id, path, fresh)
            self.volumes.replace(target, fresh)
            return True

    # --- NICs -----------------------------------------------------------------------------------------------------

    def attach_nic(self, instance_id: str, nic: Nic) -> None:
        with self._turn(instance_id):
            record = self._require(instance_id)
            old = next((old for old in record.nics if old.mac == nic.mac), None)
            if old != nic:
                if old is not None:
                    self._unplug(instance_id, nic.mac)
                record = record.attached(nic)
                self._records.save(record)
            process_id = self._running(instance_id)
            if process_id is not None:
                self._plug(record, nic, process_id, f"eth{record.nics.index(nic)}")

    def set_rate(self, instance_id: str, mac: str, rate_mbit: int) -> None:
        with self._turn(instance_id):
            record = self._require(instance_id)
            for nic in record.nics:
                if nic.mac == mac and nic.rate_mbit != rate_mbit:
                    changed = replace(nic, rate_mbit=rate_mbit)
                    self._records.save(record.changed(changed))
                    self._fabric.set_rate(instance_id, changed)

    def set_addresses(self, instance_id: str, mac: str, addresses: Sequence[str]) -> None:
        with self._turn(instance_id):
            record = self._require(instance_id)
            for nic in record.nics:
                if nic.mac == mac and nic.addresses != tuple(addresses):
                    changed = replace(nic, addresses=tuple(addresses))
                    self._records.save(record.changed(changed))
                    if self.power(instance_id) == "running":
                        self._filter.set(port_name(instance_id, mac), _filter_port(record, changed))

    def apply_policy(self, policy: Policy) -> None:
        self._filter.apply(policy)

    def repair_filter(self) -> list[str]:
        return self._filter.repair()

    def detach_nic(self, instance_id: str, mac: str) -> None:
        with self._turn(instance_id):
            record = self._require(instance_id)
            self._unplug(instance_id, mac)
            self._records.save(record.detached(mac))

    def _plug(self, record: Record, nic: Nic, process_id: int, name: str) -> None:
        # the filter first: nothing passes a port that it does not know
        self._filter.set(port_name(record.id, nic.mac), _filter_port(record, nic))
        self._fabric.plug(record.id, nic, process_id, name)

    def _unplug(self, instance_id: str, mac: str) -> None:
        self._fabric.unplug(instance_id, mac)
        self._filter.remove(port_name(instance_id, mac))

    # --- looking --------------------------------------------------------------------------------------------------

    def instances(self) -> list[Instance]:
        found = []
        for instance_id in self._records.ids():
            record = self._readable(instance_id)
            if record is not None:
                self._trim_log(instance_id)
                found.append(Instance(instance_id, record.kind, self.power(instance_id)))
        return found

    def power(self, instance_id: str) -> Power:
        if not self._records.folder(instance_id).exists():
            return "absent"
        return "stopped" if self._running(instance_id) is None else "running"

    def facts(self) -> list[HostFacts]:
        pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
        name = socket.gethostname()
        return [
            HostFacts(
                name,
                self.name,
                os.cpu_count() or 1,
                pages * size,
                url=f"namespace://{name}",
                cpu_used=self._meter.percent(*load.processor_times()),
                memory_used=load.memory_used(),
            )
        ]

    def migrate(self, instance_id: str, host: str) -> None:
        raise HypervisorError("the namespace hypervisor has this machine only, and nowhere to move an instance to")

    def add_host(self, url: str) -> HostFacts:
        raise HypervisorError("the namespace hypervisor has this machine only; use libvirt for several hosts")

    def remove_host(self, url: str) -> None:
        raise HypervisorError("the namespace hypervisor has this machine only, which cannot be removed")

    def console_log(self, instance_id: str) -> str:
        """What the instance's init and the programs it runs printed, the newest 4 MiB at most."""
        try:
            with (self._records.folder(instance_id) / CONSOLE_LOG).open("rb") as file:
                # root in the instance can make the file as long as it likes
                file.seek(max(0, file.seek(0, os.SEEK_END) - CONSOLE_LOG_LIMIT))
                return file.read(CONSOLE_LOG_LIMIT).decode(errors="replace")
        except FileNotFoundError:
            return ""

    def state_directory(self, instance_id: str) -> Path:
        """The instance's /var (appliance) or root (guest) on the machine, for backups and debugging."""
        folder = self._records.folder(instance_id)
        return folder / ("var" if self._require(instance_id).kind == "appliance" else "root/upper")

    # --- reaching in ----------------------------------------------------------------------------------------------

    def connect(self, address: str, port: int, timeout: float) -> socket.socket:
        sock = self._fabric.socket()
        try:
            sock.settimeout(timeout)
            sock.connect((address, port))
        except OSError:
            sock.close()
            raise
        return sock

    def command(self, instance_id: str, argv: Sequence[str]) -> list[str]:
        """The argument list that runs ``argv`` inside the instance, for callers that start processes themselves."""
        process_id = self._running(instance_id)
        if process_id is None:
            power = self.power(instance_id)
            raise HypervisorError(
                f"{instance_id} is {power}; start it first"
                if power == "stopped"
                else f"there is no instance {instance_id}"
            )
        return enter.command(process_id, argv, [*enter.terminal(), *_python_variables()])

    def console(self, instance_id: str) -> ConsoleTarget:
        raise HypervisorError(
            "guests of the namespace hypervisor have no screen; use gatehouse exec or SSH, or a guest on libvirt"
        )

    def exec(self, instance_id: str, argv: Sequence[str]) -> int:
        return enter.run_attached(self.command(instance_id, argv))

    # --- helpers --------------------------------------------------------------------------------------------------

    @contextmanager
    def _turn(self, instance_id: str) -> Iterator[None]:
        """Calls about one instance take turns."""
        if self._owner is None:
            raise HypervisorError("the hypervisor is not open")
        with self._locks[instance_id]:
            yield

    def _require(self, instance_id: str) -> Record:
        record = self._records.load(instance_id)
        if record is None:
            raise HypervisorError(f"there is no instance {instance_id}")
        return record

    def _process(self, instance_id: str) -> Process | None:
        return recorded(self._records.folder(instance_id))

    def _running(self, instance_id: str) -> int | None:
        """PID 1 of an instance that runs."""
        process = running(self._records.folder(instance_id))
        return process.pid if process is not None else None

    def _readable(self, instance_id: str) -> Record | None:
        """The record; one that is damaged must not keep the others from working."""
        try:
            return self._records.load(instance_id)
        except HypervisorError as error:
            log.error("%s", error)
            return None

    def _trim_log(self, instance_id: str) -> None:
        path = self._records.folder(instance_id) / CONSOLE_LOG
        with suppress(FileNotFoundError):
            # writers append, so after this they go on at the new end
            if path.stat().st_size > CONSOLE_LOG_LIMIT:
                os.truncate(path, 0)


def _filter_port(record: Record, nic: Nic) -> FilterPort:
    return port_of(nic, appliance=record.kind == "appliance")


def _lock(path: Path, patience: float, problem: str) -> IO[bytes]:
    """The file, locked for this process alone (flock(2)). Raises HypervisorError after ``patience`` seconds."""
    deadline = time.monotonic() + patience
    file = path.open("wb")
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                file.close()
                raise HypervisorError(problem) from None
            time.sleep(0.02)
        else:
            return file


def _python_variables() -> list[tuple[str, str]]:
    path = os.environ.get("PYTHONPATH")
    return [("PYTHONPATH", path)] if path else []


def _many_users() -> bool:
    """Whether this user namespace has more users than its root."""
    return sum(int(line.split()[2]) for line in Path("/proc/self/uid_map").read_text().splitlines()) > 1
