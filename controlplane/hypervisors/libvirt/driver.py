"""The libvirt hypervisor: appliances and guests as virtual machines on one or more hosts (see base.Hypervisor).

What was asked for is in records on disk, what runs is asked of libvirt each time. Domains are transient: one that ends,
for whatever reason, leaves nothing in libvirt, and a control plane that starts again finds those that run.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import secrets
import socket
import string
import sys
import threading
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path
from subprocess import CompletedProcess

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
    Share,
)
from controlplane.hypervisors.bridges import (
    CONTROL,
    CONTROL_ADDRESS,
    bridge_name,
    load_segments,
    port_name,
    save_segments,
)
from controlplane.hypervisors.libvirt import guestagent
from controlplane.hypervisors.libvirt.administrators import read_keys
from controlplane.hypervisors.libvirt.domain import (
    VNC_PASSWORD,
    Machine,
    Port,
    disk_xml,
    domain_xml,
    fstab,
    port_xml,
)
from controlplane.hypervisors.libvirt.host import Host
from controlplane.hypervisors.libvirt.remote.keys import Keys
from controlplane.hypervisors.libvirt.storage import STATE_SERIAL, Storage
from controlplane.hypervisors.policy import Policy
from controlplane.hypervisors.portfilter.model import Port as FilterPort
from controlplane.hypervisors.portfilter.model import port_of
from controlplane.hypervisors.records import Record, Records, write_atomically
from controlplane.hypervisors.volumes import Volumes

log = logging.getLogger(__name__)

DEFAULT_URI = "qemu:///system"
#: seconds between an instance's power button and its plug
GRACE = 30.0
#: name of a credential in the firmware's configuration (systemd.system-credentials(7)); of a file of the identity
_CREDENTIAL = "opt/io.systemd.credentials/gatehouse.{}"
#: mounts that systemd makes beside those of its fstab (systemd.system-credentials(7))
FSTAB = "fstab.extra"
_CREDENTIALS = {FSTAB: "opt/io.systemd.credentials/{}"}
SERIAL_LOG, SERIAL_LOG_SHOWN = "serial.log", 4 << 20


class LibvirtHypervisor:
    """One data directory's virtual machines and their networks.

    ``directory`` (mode 0700) is for records, ``storage`` for what QEMU opens. ``uri`` is the first host; others are
    added by ``add_host`` and remembered. ``ssh_keys`` is a file of public keys that log in to appliances.
    """

    name = "KVM"

    def __init__(
        self,
        directory: Path,
        storage: Path,
        *,
        uri: str = DEFAULT_URI,
        system_image: Path | None = None,
        ssh_keys: Path | None = None,
    ) -> None:
        self.directory = directory.absolute()
        self.storage = Storage(storage.absolute(), system_image.absolute() if system_image else None)
        self._uri = uri
        self._ssh_keys = ssh_keys.absolute() if ssh_keys else None
        self._records = Records(self.directory / "instances")
        self._segments_file = self.directory / "segments.json"
        self._hosts_file = self.directory / "hosts.json"
        self._segments: dict[str, Segment] = {}
        self._hosts: dict[str, Host] = {}
        self._opened = False
        #: newest policy of security groups, None until there is one
        self._policy: Policy | None = None
        self._locks: defaultdict[str, threading.RLock] = defaultdict(threading.RLock)
        self._copying: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
        # in each domain: whose it is
        self._owner = hashlib.sha256(str(self.directory).encode()).hexdigest()[:16]
        self.volumes = Volumes(self._owner, lambda: self._host(self._uri).qemu_user)

    # --- life of the hypervisor -----------------------------------------------------------------------------

    def open(self) -> None:
        """Connect to the hosts, adopt what runs there, and remove what a crash left half made."""
        if self._opened:
            return
        if self._ssh_keys is not None:
            # what is wrong with them is told now, and not when a router starts
            read_keys(self._ssh_keys)
        self._hosts = {}
        self._records.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.storage.open(self._owner)
        self._records.sweep()
        self._segments = load_segments(self._segments_file)
        self._segments.setdefault(CONTROL, Segment(CONTROL))
        try:
            # without the first host there is nothing to begin with
            self._open_host(self._uri)
        except BaseException:
            self.close()
            raise
        for uri in self._known_hosts():
            if uri and uri not in self._hosts:
                try:
                    self._open_host(uri)
                except HypervisorError as error:
                    # its machines go on; it is asked again when something is wanted of it
                    log.error("%s", error)
        known = set(self._records.ids())
        for instance_id in self.storage.ids():
            if instance_id not in known:
                self.storage.remove(instance_id)
        self._opened = True

    def close(self) -> None:
        for host in self._hosts.values():
            host.close()
        self._hosts, self._opened = {}, False

    def purge(self) -> None:
        """Destroy every instance and segment: afterwards nothing of this hypervisor is left on the hosts."""
        for instance_id in list(self._records.ids()):
            self.destroy(instance_id)
        for host in self._ready():
            host.side.forget()
        self._segments_file.unlink(missing_ok=True)
        self.close()

    def _open_host(self, uri: str) -> Host:
        host = self._known(uri)
        self._bring_up(host)
        return host

    def _known(self, uri: str) -> Host:
        host = Host(
            uri,
            self.directory / "hosts",
            self.storage,
            self._control_address(uri),
            owner=self._owner,
            keys=Keys(self.directory / "ssh"),
        )
        if uri == self._uri and not host.local:
            raise HypervisorError(
                f"{uri} is on another machine; the first host is this one, whose bridge is the way to appliances: run "
                "libvirtd here, and add that host with addHost"
            )
        self._hosts[uri] = host
        return host

    def _bring_up(self, host: Host) -> None:
        """Take a host over, unless that has been done. Raises HypervisorError."""
        with host.turn:
            if host.ready:
                return
            try:
                host.open()
                self._adopt(host)
                host.side.ensure_segment(self._segments[CONTROL])
            except BaseException as error:
                host.close()
                host.failed(error)
                raise
            host.taken_over()
        log.info("libvirt at %s runs machines by %s", host.uri, "KVM" if host.accelerator == "kvm" else "emulation")

    def _adopt(self, host: Host) -> None:
        """Take over what runs on a host: its records say what must be there, and what has none goes."""
        running = host.running(self._owner)
        for record in self._all_records():
            if record.target is not None:
                self._arrive(record, host, running)
        records = {record.id: record for record in self._all_records() if (record.host or self._uri) == host.uri}
        for instance_id in sorted(running - records.keys()):
            log.warning("%s at %s has no record: switched off", instance_id, host.uri)
            host.stop(instance_id, 0)
        alive = [records[instance_id] for instance_id in sorted(running & records.keys())]
        for record in alive:
            log.info("adopting %s %s at %s", record.kind, record.id, host.uri)
        nics = [(record, nic) for record in alive for nic in record.nics]
        host.side.open_filter({port_name(record.id, nic.mac): _filter_port(record, nic) for record, nic in nics})
        if self._policy is not None:
            host.side.apply_policy(self._policy)
        for segment in {nic.segment for _, nic in nics} & self._segments.keys():
            host.side.ensure_segment(self._segments[segment])
        host.side.set_rates([(record.id, nic) for record, nic in nics])
        for name in host.side.segments():
            # removed while the host did not answer
            if name not in self._segments:
                host.side.remove_segment(name)

    def _arrive(self, record: Record, host: Host, running: set[str]) -> None:
        """Find out where a guest is that was on its way when the control plane ended."""
        if record.id in running and host.executes(record.id):
            self._records.save(replace(record, host=host.uri, target=None))

    # --- hosts ----------------------------------------------------------------------------------------------

    def add_host(self, url: str) -> HostFacts:
        """Use the libvirtd at ``url`` as well, from now on. Raises HypervisorError when it does not answer."""
        known = self._known_hosts()
        if url not in known and url != self._uri:
            # a place that a removed host has left is free
            place = known.index("") if "" in known else len(known)
            if place >= 250:
                raise HypervisorError("there are 251 hosts already, and no address of the control network for one more")
            self._save_hosts([*known[:place], url, *known[place + 1 :]])
        try:
            return (self._hosts.get(url) or self._open_host(url)).facts(self.name)
        except HypervisorError:
            self._hosts.pop(url, None)
            self._save_hosts(known)
            raise

    def remove_host(self, url: str) -> None:
        """Use a host no longer; nothing may run there. Its bridges go."""
        for record in self._all_records():
            if record.host == url:
                raise HypervisorError(f"{record.id} is on {url}; destroy it or move it first")
        host = self._hosts.get(url)
        if host is not None and url != self._uri:
            if host.ready:
                host.side.forget()
            host.close()
            del self._hosts[url]
        self._save_hosts(["" if known == url else known for known in self._known_hosts()])

    def facts(self) -> list[HostFacts]:
        """One of each host; of one that does not answer, that it is down."""
        found = []
        # a call may add or remove one meanwhile
        for uri, host in list(self._hosts.items()):
            try:
                if self._opened and not host.ready:
                    # it did not answer before
                    self._bring_up(host)
                found.append(host.facts(self.name))
            except HypervisorError as error:
                log.error("%s", error)
                found.append(HostFacts(uri, self.name, 0, 0, url=uri, up=False, reserves=True))
        return found

    def _control_address(self, uri: str) -> str:
        """Where a host is on the control network: the first is 169.254.0.1, others have what is theirs for good."""
        number = 1 if uri == self._uri else 2 + self._known_hosts().index(uri)
        return str(IPv4Address(CONTROL_ADDRESS) + number - 1)

    def _known_hosts(self) -> list[str]:
        try:
            hosts: list[str] = json.loads(self._hosts_file.read_text())
        except FileNotFoundError:
            return []
        return hosts

    def _save_hosts(self, hosts: list[str]) -> None:
        write_atomically(self._hosts_file, json.dumps(hosts))

    def _ready(self) -> list[Host]:
        return [host for host in list(self._hosts.values()) if host.ready]

    def _host(self, url: str) -> Host:
        if not self._hosts:
            self._look()
        host = self._hosts.get(url or self._uri)
        if host is None:
            raise HypervisorError(f"there is no host {url}; add it with addHost")
        if self._opened and not host.ready:
            # one that did not answer, or whose connection broke, may be back
            host.refuse_so_soon()
            self._bring_up(host)
        return host

    # --- segments -------------------------------------------------------------------------------------------

    def ensure_segment(self, segment: Segment) -> None:
        """Note it; each host gets its bridge with the first NIC there."""
        if self._segments.get(segment.name) != segment:
            self._segments = {**self._segments, segment.name: segment}
            save_segments(self._segments_file, self._segments)
            for host in self._ready():
                with _without_the_lost(host):
                    if segment.name in host.side.segments():
                        host.side.ensure_segment(segment)

    def remove_segment(self, name: str) -> None:
        for record in self._all_records():
            if any(nic.segment == name for nic in record.nics) and self.power(record.id) == "running":
                raise HypervisorError(f"segment {name} is in use by {record.id}; stop or detach it first")
        for host in self._ready():
            with _without_the_lost(host):
                host.side.remove_segment(name)
        self._segments = {key: value for key, value in self._segments.items() if key != name}
        save_segments(self._segments_file, self._segments)

    def segments(self) -> list[str]:
        """Names of all segments."""
        return list(self._segments)

    def _port(self, host: Host, instance_id: str, nic: Nic) -> Port:
        segment = self._segments.get(nic.segment)
        if segment is None:
            raise HypervisorError(f"there is no segment {nic.segment}; ensure it before its first NIC")
        host.side.ensure_segment(segment)
        return Port(
            mac=nic.mac,
            name=port_name(instance_id, nic.mac),
            bridge=bridge_name(nic.segment),
            mtu=segment.mtu,
            # appliances reach the control plane only, never each other
            isolated=nic.segment == CONTROL,
        )

    # --- starting -------------------------------------------------------------------------------------------

    def start_appliance(self, spec: ApplianceSpec) -> None:
        record = Record(spec.id, "appliance", spec.hostname, spec.nics, spec.cpus, spec.memory_mb, host=spec.host)
        with self._turn(spec.id):
            host = self._host(spec.host)
            if host.uri != self._uri:
                self._need_wire()
            if self._begin(record):
                return
            disk, state = self.storage.appliance_disks(spec.id)
            files = {**spec.identity, "hostname": spec.hostname.encode()}
            if self._ssh_keys is not None:
                files["authorized_keys"] = read_keys(self._ssh_keys)
            if spec.shares:
                # whatever is in them is what QEMU's user can read and write
                for share in spec.shares:
                    os.chown(share.source, *host.qemu_user)
                files[FSTAB] = fstab(spec.shares).encode()
            names = host.side.write_identity(spec.id, files, host.qemu_user)
            try:
                self._create(
                    host,
                    record,
                    (GuestDisk(disk, 0), GuestDisk(state, 1, STATE_SERIAL)),
                    {_CREDENTIALS.get(name, _CREDENTIAL).format(name): path for name, path in names.items()},
                    spec.shares,
                )
            finally:
                # QEMU has them in memory
                host.side.remove_identity(spec.id)

    def make_root(self, path: Path, template: str, size: int) -> int:
        path.parent.mkdir(mode=0o711, exist_ok=True)
        return self.volumes.overlay(path, self.storage.template(template), size)

    def start_guest(self, spec: GuestSpec) -> None:
        record = Record(spec.id, "guest", spec.hostname, spec.nics, spec.cpus, spec.memory_mb, spec.template, spec.host)
        with self._turn(spec.id):
            self.storage.template(spec.template)
            if not self._begin(record):
                host = self._host(spec.host)
                self.storage.prepare(spec.id)
                disks = list(spec.disks)
                if not any(disk.device == 0 for disk in disks):
                    disks.insert(0, GuestDisk(self.storage.guest_disk(spec.id, spec.template), 0))
                self._reachable(host, [disk.path for disk in disks])
                self._create(host, record, tuple(disks), {})

    def _begin(self, record: Record) -> bool:
        """Note what is to run; whether it runs already."""
        if self.power(record.id) == "running":
            return True
        self._records.save(record)
        return False

    def images(self) -> Path:
        return self.storage.images

    def has_template(self, name: str) -> bool:
        return self.storage.has_template(name)

    def add_template(self, name: str, image: Path) -> None:
        self.storage.add_template(name, image)

    def remove_template(self, name: str) -> None:
        self.storage.remove_template(name)

    def _create(
        self,
        host: Host,
        record: Record,
        disks: tuple[GuestDisk, ...],
        firmware: dict[str, Path],
        shares: tuple[Share, ...] = (),
    ) -> None:
        log_file = self.storage.folder(record.id) / SERIAL_LOG
        machine = Machine(
            id=record.id,
            owner=self._owner,
            accelerator=host.accelerator,
            cpus=record.cpus,
            memory_mb=record.memory_mb,
            disks=disks,
            ports=tuple(self._port(host, record.id, nic) for nic in record.nics),
            serial_log=log_file,
            password=_password(),
            screen=host.control_address,
            clipboard=record.kind == "guest",
            firmware=firmware,
            shares=shares,
        )
        log_file.unlink(missing_ok=True)
        try:
            # the filter first: nothing passes a port that it does not know
            self._admit(host, record)
            host.create(domain_xml(machine))
        except HypervisorError as error:
            self._withdraw(host, record)
            raise HypervisorError(f"{record.kind} {record.id}: {error}") from error
        host.side.set_rates([(record.id, nic) for nic in record.nics])

    # --- stopping -------------------------------------------------------------------------------------------

    def stop(self, instance_id: str, *, force: bool = False) -> None:
        with self._turn(instance_id):
            record = self._records.load(instance_id)
            if record is not None:
                host = self._host(record.host)
                host.stop(instance_id, 0 if force else GRACE)
                self._withdraw(host, record)

    def destroy(self, instance_id: str) -> None:
        with self._turn(instance_id):
            self.stop(instance_id, force=True)
            self.storage.remove(instance_id)
            self._records.remove(instance_id)

    # --- moving ---------------------------------------------------------------------------------------------

    def migrate(self, instance_id: str, host: str) -> None:
        with self._turn(instance_id):
            record = self._require(instance_id)
            source, target = self._host(record.host), self._host(host)
            if source is target:
                return
            self._movable(record)
            self._reachable(target, source.disks(instance_id))
            for nic in record.nics:
                self._port(target, instance_id, nic)
            self._admit(target, record)
            # the record first: whichever host it is found on after a crash, it is known there
            self._records.save(replace(record, target=target.uri))
            try:
                source.migrate(instance_id, target)
            except HypervisorError:
                self._records.save(record)
                self._withdraw(target, record)
                raise
            self._records.save(replace(record, host=target.uri))
            target.side.set_rates([(instance_id, nic) for nic in record.nics])
            self._withdraw(source, record)

    def _movable(self, record: Record) -> None:
        if record.kind == "appliance":
            raise HypervisorError(f"{record.id} cannot be moved while it runs: its identity is on no disk; restart it")
        self._need_wire()
        for nic in record.nics:
            if self._segments[nic.segment].wire is None:
                raise HypervisorError(f"segment {nic.segment} is of one host; give its traffic a label")

    def _need_wire(self) -> None:
        """Raise HypervisorError unless hosts, and appliances on them, reach each other on the control network."""
        if self._segments[CONTROL].wire is None:
            raise HypervisorError(
                "the control network is of the first host alone, and does not reach another one; give management "
                "traffic a label (updateTrafficType)"
            )

    # --- disks ----------------------------------------------------------------------------------------------

    @property
    def pool(self) -> Path:
        return self.storage.directory

    def attach_disk(self, instance_id: str, disk: GuestDisk) -> None:
        with self._turn(instance_id):
            record = self._records.load(instance_id)
            if record is None or self.power(instance_id) != "running":
                return
            host = self._host(record.host)
            if disk.path not in host.disks(instance_id):
                self._reachable(host, [disk.path])
                host.attach(instance_id, disk_xml(disk))

    def detach_disk(self, instance_id: str, path: Path) -> None:
        with self._turn(instance_id):
            record = self._records.load(instance_id)
            if record is not None:
                self._host(record.host).detach_disk(instance_id, path)

    def resize_disk(self, instance_id: str, path: Path, size: int) -> bool:
        with self._turn(instance_id):
            record = self._records.load(instance_id)
            if record is None or self.power(instance_id) != "running":
                return False
            self._host(record.host).resize_disk(instance_id, path, size)
            return True

    def copy_disk(self, instance_id: str, path: Path, target: Path, *, quiesce: bool) -> bool:
        # QEMU does one copy of a machine at a time; it may take long, and the machine can be stopped meanwhile
        with self._copying[instance_id]:
            record = self._records.load(instance_id)
            if record is None or self.power(instance_id) != "running":
                return False
            fresh = target.with_name(f"{target.name}.new")
            self._host(record.host).copy_disk(instance_id, path, fresh, quiesce=quiesce)
            self.volumes.replace(target, fresh)
            return True

    def _reachable(self, host: Host, paths: Iterable[Path]) -> None:
        """Raise HypervisorError unless a host has the pools of these files."""
        elsewhere = (path for path in paths if not path.is_relative_to(self.storage.directory))
        for pool in {path.parent.parent for path in elsewhere}:
            if not host.local and host.side.storage_mark(pool) != self._owner:
                raise HypervisorError(
                    f"{host.uri} does not have the storage pool {pool}; share it, e.g. mount it there by NFS"
                )

    # --- NICs -----------------------------------------------------------------------------------------------

    def attach_nic(self, instance_id: str, nic: Nic) -> None:
        with self._turn(instance_id):
            record = self._require(instance_id)
            host = self._host(record.host)
            if nic not in record.nics:
                if any(old.mac == nic.mac for old in record.nics):
                    host.detach(instance_id, nic.mac)
                self._records.save(record.attached(nic))
            if self.power(instance_id) == "running" and nic.mac.lower() not in host.macs(instance_id):
                port = self._port(host, instance_id, nic)
                host.side.set_port(instance_id, _filter_port(record, nic))
                host.attach(instance_id, port_xml(port))
                host.side.set_rates([(instance_id, nic)])

    def set_rate(self, instance_id: str, mac: str, rate_mbit: int) -> None:
        with self._turn(instance_id):
            record = self._require(instance_id)
            for nic in record.nics:
                if nic.mac == mac and nic.rate_mbit != rate_mbit:
                    changed = replace(nic, rate_mbit=rate_mbit)
                    self._records.save(record.changed(changed))
                    self._host(record.host).side.set_rates([(instance_id, changed)])

    def detach_nic(self, instance_id: str, mac: str) -> None:
        with self._turn(instance_id):
            record = self._require(instance_id)
            host = self._host(record.host)
            host.detach(instance_id, mac)
            host.side.remove_port(instance_id, mac)
            self._records.save(record.detached(mac))

    def set_addresses(self, instance_id: str, mac: str, addresses: Sequence[str]) -> None:
        with self._turn(instance_id):
            record = self._require(instance_id)
            for nic in record.nics:
                if nic.mac == mac and nic.addresses != tuple(addresses):
                    changed = replace(nic, addresses=tuple(addresses))
                    self._records.save(record.changed(changed))
                    if self.power(instance_id) == "running":
                        self._host(record.host).side.set_port(instance_id, _filter_port(record, changed))

    def apply_policy(self, policy: Policy) -> None:
        self._policy = policy
        for host in self._ready():
            # one that does not answer goes on with what it has, and gets this when it is back
            with _without_the_lost(host):
                host.side.apply_policy(policy)

    def repair_filter(self) -> list[str]:
        wrong = []
        for host in self._ready():
            with _without_the_lost(host):
                wrong += host.side.repair_filter()
        return wrong

    def _admit(self, host: Host, record: Record) -> None:
        for nic in record.nics:
            host.side.set_port(record.id, _filter_port(record, nic))

    def _withdraw(self, host: Host, record: Record) -> None:
        """Remove what a run of the instance had on the host's network; its taps went with the domain."""
        for nic in record.nics:
            host.side.remove_port(record.id, nic.mac)

    # --- looking --------------------------------------------------------------------------------------------

    def instances(self) -> list[Instance]:
        running: dict[str, set[str] | None] = {}
        found = []
        for record in self._all_records():
            uri = record.host or self._uri
            if uri not in running:
                running[uri] = self._running_at(uri)
            there = running[uri]
            power: Power = "unknown"
            if there is not None:
                power = "running" if record.id in there else "stopped"
            found.append(Instance(record.id, record.kind, power))
        return found

    def _running_at(self, uri: str) -> set[str] | None:
        try:
            return self._host(uri).running(self._owner)
        except HypervisorError as error:
            log.error("%s", error)
            return None

    def power(self, instance_id: str) -> Power:
        record = self._records.load(instance_id)
        if record is None:
            return "absent"
        return "running" if self._host(record.host).find(instance_id) is not None else "stopped"

    def console(self, instance_id: str) -> ConsoleTarget:
        address, port, password = self._host(self._require(instance_id).host).graphics(instance_id)
        return ConsoleTarget(address, port, "vnc", password)

    def console_log(self, instance_id: str) -> str:
        """What came out of its serial port since it was started, the newest 4 MiB at most."""
        try:
            with (self.storage.folder(instance_id) / SERIAL_LOG).open("rb") as file:
                file.seek(max(0, file.seek(0, 2) - SERIAL_LOG_SHOWN))
                return file.read(SERIAL_LOG_SHOWN).decode(errors="replace")
        except FileNotFoundError:
            return ""

    # --- reaching in ----------------------------------------------------------------------------------------

    def connect(self, address: str, port: int, timeout: float) -> socket.socket:
        # any host's bridge is in the control network
        sock = self._host(self._uri).side.socket()
        try:
            sock.settimeout(timeout)
            sock.connect((address, port))
        except OSError:
            sock.close()
            raise
        return sock

    def execute(
        self, instance_id: str, argv: Sequence[str], *, stdin: str | None = None, timeout: float = 30
    ) -> CompletedProcess[str]:
        """Run a command in a guest that has the QEMU guest agent; output is captured."""
        domain = self._host(self._require(instance_id).host).find(instance_id)
        if domain is None:
            raise HypervisorError(f"{instance_id} is stopped; start it first")
        return guestagent.execute(domain, argv, stdin=stdin, timeout=timeout)

    def exec(self, instance_id: str, argv: Sequence[str]) -> int:
        """As ``execute``, with the output on this process's own when the command has ended."""
        done = self.execute(instance_id, argv, timeout=3600)
        sys.stdout.write(done.stdout)
        sys.stderr.write(done.stderr)
        return done.returncode

    # --- helpers --------------------------------------------------------------------------------------------

    @contextmanager
    def _turn(self, instance_id: str) -> Iterator[None]:
        """Calls about one instance take turns."""
        if not self._opened:
            raise HypervisorError("the hypervisor is not open")
        with self._locks[instance_id]:
            yield

    def _look(self) -> None:
        """Know the hosts without changing anything there, beside a control plane that owns the directory."""
        for uri in (self._uri, *self._known_hosts()):
            if uri and uri not in self._hosts:
                self._known(uri)

    def _require(self, instance_id: str) -> Record:
        record = self._records.load(instance_id)
        if record is None:
            raise HypervisorError(f"there is no instance {instance_id}")
        return record

    def _all_records(self) -> Iterator[Record]:
        for instance_id in list(self._records.ids()):
            try:
                record = self._records.load(instance_id)
            except HypervisorError as error:
                log.error("%s", error)
                continue
            if record is not None:
                yield record


@contextmanager
def _without_the_lost(host: Host) -> Iterator[None]:
    """Go on with the other hosts when the connection to this one breaks; it is taken over anew when it is back."""
    try:
        yield
    except HypervisorError as error:
        if host.ready:
            raise
        log.error("%s", error)


def _filter_port(record: Record, nic: Nic) -> FilterPort:
    return port_of(nic, appliance=record.kind == "appliance")


def _password() -> str:
    letters = string.ascii_letters + string.digits
    return "".join(secrets.choice(letters) for _ in range(VNC_PASSWORD))
