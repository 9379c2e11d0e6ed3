"""One host: its libvirtd, on this machine or another, and what instances need there besides."""

from __future__ import annotations

import hashlib
import logging
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.etree import ElementTree

import libvirt

from controlplane.hypervisors.base import HostFacts, HypervisorError
from controlplane.hypervisors.libvirt import acceleration
from controlplane.hypervisors.libvirt.domain import CLIPBOARD_AGENT, METADATA, backup_xml, clipboard_xml
from controlplane.hypervisors.libvirt.hostside import HostSide, Place
from controlplane.hypervisors.libvirt.quiesce import Quiesced
from controlplane.hypervisors.libvirt.remote.keys import Keys
from controlplane.hypervisors.libvirt.remote.link import Link
from controlplane.hypervisors.libvirt.remote.side import remote_side
from controlplane.hypervisors.libvirt.remote.target import daemon_socket, parse_target
from controlplane.hypervisors.libvirt.storage import Storage
from controlplane.hypervisors.load import Meter

log = logging.getLogger(__name__)

#: seconds that a domain's NIC has to be let go by its guest
_UNPLUG = 20.0
#: seconds between two looks whether a copy has ended
_LOOK = 0.2
#: seconds between tries to reach a host that is down
_AGAIN = 15.0

_MIGRATABLE = libvirt.VIR_DOMAIN_XML_SECURE | libvirt.VIR_DOMAIN_XML_MIGRATABLE
#: Memory is sent while the guest runs, which is slowed down if it writes faster. That storage is shared was seen when
#: the hosts were taken over; libvirt by itself trusts only some file systems.
_MIGRATION = libvirt.VIR_MIGRATE_LIVE | libvirt.VIR_MIGRATE_AUTO_CONVERGE | libvirt.VIR_MIGRATE_UNSAFE

# errors come as exceptions; libvirt would print them as well
libvirt.registerErrorHandler(lambda *_: None, None)


@contextmanager
def told(doing: str) -> Iterator[None]:
    """Errors of libvirt as HypervisorError that says what was being done."""
    try:
        yield
    except libvirt.libvirtError as error:
        raise HypervisorError(f"{doing}: {error}") from error


class Host:
    """The libvirtd at ``uri``. Safe to call from any thread.

    ``directory`` is for what is noted of hosts; ``owner`` names the data directory, ``keys`` are for hosts elsewhere.
    """

    def __init__(
        self, uri: str, directory: Path, storage: Storage, control_address: str, *, owner: str, keys: Keys
    ) -> None:
        self.uri = uri
        self._directory = directory / hashlib.sha256(uri.encode()).hexdigest()[:12]
        self._storage = storage
        self._owner = owner
        self._lock = threading.Lock()
        self._connection: Any = None
        self._carried = 0
        target = parse_target(uri)
        self._link = Link(target, keys) if target is not None else None
        self._cache = directory / "acceleration.json"
        self.control_address = control_address
        if self._link is not None and target is not None:
            self.side = remote_side(self._link, owner, control_address, target.socket)
        else:
            identities = storage.directory / "identities"
            self.side = HostSide(Place(self._directory, identities, control_address, daemon_socket(uri)))
        self.accelerator: acceleration.Accelerator = "qemu"
        self._meter = Meter()
        self._taken_over = False
        #: when and why taking it over failed last
        self._failure: tuple[float, str] | None = None
        #: user and group that QEMU runs as
        self.qemu_user = (0, 0)
        #: calls that take it over take turns
        self.turn = threading.RLock()

    # --- life -----------------------------------------------------------------------------------------------

    @property
    def ready(self) -> bool:
        """Whether everything of it has been taken over, over a connection that is still there."""
        return self._taken_over and self.side.opened

    @property
    def local(self) -> bool:
        return self._link is None

    def open(self) -> None:
        """Connect. Raises HypervisorError saying what to do when nothing answers there."""
        self._taken_over = False
        connection = self.connection()
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.side.open()
        storage = self._storage.directory
        if self.side.storage_mark(storage) != self._owner:
            raise HypervisorError(
                f"{self.uri} does not have the storage {storage}; share it, e.g. mount it there by NFS"
            )
        with told(f"asking {self.uri} what it has"):
            self.qemu_user = _qemu_user(connection.getCapabilities())
        self.accelerator = acceleration.accelerator(connection, storage, self._cache, self.side.boot_id())

    def taken_over(self) -> None:
        self._taken_over, self._failure = True, None

    def failed(self, error: BaseException) -> None:
        """Note that it cannot be taken over now."""
        self._failure = (time.monotonic(), str(error))

    def refuse_so_soon(self) -> None:
        """Raise HypervisorError if it failed just now: waiting for it again would hold up everybody."""
        if self._failure is not None and time.monotonic() - self._failure[0] < _AGAIN:
            raise HypervisorError(self._failure[1])

    def close(self) -> None:
        self._taken_over = False
        self.side.close()
        with self._lock:
            if self._connection is not None:
                with suppress(libvirt.libvirtError):
                    self._connection.close()
                self._connection = None

    def connection(self) -> Any:
        """The connection, made anew when the daemon was restarted."""
        with self._lock:
            if self._connection is not None and not (self._connection.isAlive() and self._carried == self._carrier()):
                self._connection = None
            if self._connection is None:
                self._connection = self._connect()
                self._carried = self._carrier()
            return self._connection

    def _carrier(self) -> int:
        """Which of the links to another machine; libvirt notices late that the one it used is gone."""
        return self._link.generation if self._link is not None and self._link.alive else 0

    def _connect(self) -> Any:
        uris = [self.uri]
        if self._link is not None:
            self._link.connect()
            uris = [f"qemu:///system?socket={quote(str(path))}" for path in self._link.libvirt_sockets()]
        for uri in uris:
            try:
                return libvirt.open(uri)
            except libvirt.libvirtError as error:
                reason = error
        raise HypervisorError(
            f"libvirt at {self.uri} does not answer ({reason}); start libvirtd there, or name another with "
            "--libvirt-uri"
        )

    # --- domains --------------------------------------------------------------------------------------------

    def find(self, instance_id: str) -> Any:
        """The instance's domain, None when it does not run here."""
        try:
            domain = self._ask(lambda connection: connection.lookupByName(instance_id))
            return domain if domain.isActive() else None
        except libvirt.libvirtError as error:
            if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
                return None
            raise HypervisorError(f"looking for {instance_id} at {self.uri}: {error}") from error

    def _ask(self, question: Callable[[Any], Any]) -> Any:
        """The answer, on a new connection when it shows that the daemon has left the old one."""
        connection = self.connection()
        try:
            return question(connection)
        except libvirt.libvirtError:
            if connection.isAlive():
                raise
            return question(self.connection())

    def executes(self, instance_id: str) -> bool:
        """Whether its domain is neither paused nor still arriving."""
        domain = self.find(instance_id)
        with told(f"looking at {instance_id}"):
            return domain is not None and domain.state()[0] == libvirt.VIR_DOMAIN_RUNNING

    def running(self, owner: str) -> set[str]:
        """Ids of the instances of a data directory that run here."""
        with told(f"listing domains at {self.uri}"):
            domains = self._ask(lambda asked: asked.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE))
        return {domain.name() for domain in domains if _owner_of(domain) == owner}

    def create(self, xml: str) -> None:
        with told("the domain does not start"):
            self._ask(lambda connection: connection.createXML(xml, 0))

    def stop(self, instance_id: str, grace: float) -> None:
        """Press its power button and wait ``grace`` seconds, then switch it off."""
        domain = self.find(instance_id)
        if domain is None:
            return
        if grace > 0:
            with suppress(libvirt.libvirtError):
                domain.shutdownFlags(libvirt.VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN)
            deadline = time.monotonic() + grace
            while time.monotonic() < deadline:
                if self.find(instance_id) is None:
                    return
                time.sleep(0.1)
            log.warning("%s does not end within %g s of its power button: switched off", instance_id, grace)
        try:
            domain.destroy()
        except libvirt.libvirtError as error:
            if self.find(instance_id) is not None:
                raise HypervisorError(f"{instance_id} cannot be switched off: {error}") from error

    def migrate(self, instance_id: str, target: Host) -> None:
        """Move a running domain to ``target``, over the control network; on HypervisorError it is still here.

        Its memory goes from QEMU to QEMU as it is, so that network must be private.
        """
        domain = self.find(instance_id)
        if domain is None:
            raise HypervisorError(f"{instance_id} does not run at {self.uri}")
        with told(f"moving {instance_id} to {target.uri}"), self._clipboard_apart(instance_id, domain, target):
            root = ElementTree.fromstring(domain.XMLDesc(_MIGRATABLE))  # noqa: S314 - libvirt's
            for screen in (*root.findall("devices/graphics"), *root.findall("devices/graphics/listen")):
                screen.set("listen" if screen.tag == "graphics" else "address", target.control_address)
            parameters = {
                libvirt.VIR_MIGRATE_PARAM_URI: f"tcp://{target.control_address}",
                libvirt.VIR_MIGRATE_PARAM_LISTEN_ADDRESS: target.control_address,
                libvirt.VIR_MIGRATE_PARAM_DEST_XML: ElementTree.tostring(root, encoding="unicode"),
            }
            domain.migrate3(target.connection(), parameters, _MIGRATION)

    @contextmanager
    def _clipboard_apart(self, instance_id: str, domain: Any, target: Host) -> Iterator[None]:
        """Unplug the clipboard's channel, with which QEMU does not migrate, and plug it in where the domain is then."""
        channels = ElementTree.fromstring(domain.XMLDesc()).findall("devices/channel")  # noqa: S314 - libvirt's
        found = [one for one in channels if one.find(f"target[@name='{CLIPBOARD_AGENT}']") is not None]
        for channel in found:
            domain.detachDeviceFlags(ElementTree.tostring(channel, encoding="unicode"), libvirt.VIR_DOMAIN_AFFECT_LIVE)
        where = self
        try:
            yield
            where = target
        finally:
            if found and (there := where.find(instance_id)) is not None:
                try:
                    there.attachDeviceFlags(clipboard_xml(), libvirt.VIR_DOMAIN_AFFECT_LIVE)
                except libvirt.libvirtError as error:
                    log.warning("%s is without a clipboard until it is started again: %s", instance_id, error)

    def attach(self, instance_id: str, xml: str) -> None:
        domain = self.find(instance_id)
        if domain is not None:
            with told(f"plugging a device into {instance_id}"):
                domain.attachDeviceFlags(xml, libvirt.VIR_DOMAIN_AFFECT_LIVE)

    def macs(self, instance_id: str) -> dict[str, str]:
        """NICs of a running domain: MAC -> XML."""
        domain = self.find(instance_id)
        if domain is None:
            return {}
        with told(f"looking at {instance_id}"):
            interfaces = ElementTree.fromstring(domain.XMLDesc()).findall("devices/interface")  # noqa: S314 - libvirt's
        return {
            mac.get("address", "").lower(): ElementTree.tostring(interface, encoding="unicode")
            for interface in interfaces
            if (mac := interface.find("mac")) is not None
        }

    def detach(self, instance_id: str, mac: str) -> None:
        """Unplug a NIC; returns when the guest has let it go. Raises HypervisorError when it does not."""
        self._unplug(instance_id, f"NIC {mac}", lambda: self.macs(instance_id).get(mac.lower()))

    def disks(self, instance_id: str) -> dict[Path, tuple[str, str]]:
        """Disks of a running domain: file -> name in the domain (``vda``) and XML."""
        domain = self.find(instance_id)
        if domain is None:
            return {}
        with told(f"looking at {instance_id}"):
            disks = ElementTree.fromstring(domain.XMLDesc()).findall("devices/disk")  # noqa: S314 - libvirt's
        return {
            Path(source.get("file", "")): (target.get("dev", ""), ElementTree.tostring(disk, encoding="unicode"))
            for disk in disks
            if (source := disk.find("source")) is not None and (target := disk.find("target")) is not None
        }

    def detach_disk(self, instance_id: str, path: Path) -> None:
        """Unplug a disk; returns when the guest has let it go. Raises HypervisorError when it does not."""

        def xml() -> str | None:
            found = self.disks(instance_id).get(path)
            return found[1] if found is not None else None

        self._unplug(instance_id, "disk", xml)

    def resize_disk(self, instance_id: str, path: Path, size: int) -> None:
        """Give a disk of a running domain more bytes."""
        domain, name = self.find(instance_id), self._disk_name(instance_id, path)
        with told(f"resizing a disk of {instance_id}"):
            if domain.blockInfo(name)[0] < size:
                domain.blockResize(name, size, libvirt.VIR_DOMAIN_BLOCK_RESIZE_BYTES)

    def copy_disk(self, instance_id: str, path: Path, target: Path, *, quiesce: bool) -> None:
        """Copy a disk of a running domain as it is now to the new file ``target``; the domain goes on meanwhile."""
        domain, name = self.find(instance_id), self._disk_name(instance_id, path)
        names = [other for other, _ in self.disks(instance_id).values()]
        doing = f"copying a disk of {instance_id}"
        with told(doing):
            if domain.jobStats().get("operation") == libvirt.VIR_DOMAIN_JOB_OPERATION_BACKUP:
                # a control plane that ended has left it
                domain.abortJob()
            target.unlink(missing_ok=True)
        guest = Quiesced(domain)
        if quiesce:
            guest.freeze()
        try:
            with told(doing):
                domain.backupBegin(backup_xml(names, name, target), None, 0)
                # the copy is consistent from here on, whether the guest can be thawed at once or not
                while domain.jobStats().get("operation") == libvirt.VIR_DOMAIN_JOB_OPERATION_BACKUP:
                    guest.thaw()
                    time.sleep(_LOOK)
                done = domain.jobStats(libvirt.VIR_DOMAIN_JOB_STATS_COMPLETED)
            if not done.get("success"):
                why = done.get("errmsg") or "it was cut off"
                raise HypervisorError(f"{doing}: {why}")
        except BaseException:
            with suppress(libvirt.libvirtError):
                domain.abortJob()
            target.unlink(missing_ok=True)
            raise
        finally:
            guest.leave()

    def _disk_name(self, instance_id: str, path: Path) -> str:
        found = self.disks(instance_id).get(path)
        if found is None:
            raise HypervisorError(f"{instance_id} does not have that disk")
        return found[0]

    def _unplug(self, instance_id: str, what: str, xml_now: Callable[[], str | None]) -> None:
        deadline = time.monotonic() + _UNPLUG
        asked = 0.0
        while (xml := xml_now()) is not None:
            domain = self.find(instance_id)
            # a guest that boots does not listen yet: it is asked again
            if domain is not None and time.monotonic() - asked > 5:
                asked = time.monotonic()
                try:
                    domain.detachDeviceFlags(xml, libvirt.VIR_DOMAIN_AFFECT_LIVE)
                except libvirt.libvirtError as error:
                    if time.monotonic() > deadline:
                        raise HypervisorError(f"unplugging {what} from {instance_id}: {error}") from error
            if time.monotonic() > deadline:
                raise HypervisorError(f"{instance_id} does not let its {what} go; stop it and try again")
            time.sleep(0.1)

    def graphics(self, instance_id: str) -> tuple[str, int, str]:
        """Address, port and password of the domain's VNC server; the address is one of this host's own."""
        domain = self.find(instance_id)
        if domain is None:
            raise HypervisorError(f"{instance_id} does not run; start it first")
        with told(f"looking at {instance_id}"):
            root = ElementTree.fromstring(domain.XMLDesc(libvirt.VIR_DOMAIN_XML_SECURE))  # noqa: S314 - libvirt's
        graphics = root.find("devices/graphics")
        if graphics is None:
            raise HypervisorError(f"{instance_id} has no console")
        return graphics.get("listen", ""), int(graphics.get("port", "0")), graphics.get("passwd", "")

    # --- the host -------------------------------------------------------------------------------------------

    def facts(self, kind: str) -> HostFacts:
        """What the host has (https://libvirt.org/html/libvirt-libvirt-host.html#virNodeInfo)."""
        with told(f"asking {self.uri} about its host"):
            _, memory_mb, cpus, mhz, *_ = self._ask(lambda connection: connection.getInfo())
            connection = self.connection()
            times = connection.getCPUStats(libvirt.VIR_NODE_CPU_STATS_ALL_CPUS)
            memory = connection.getMemoryStats(libvirt.VIR_NODE_MEMORY_STATS_ALL_CELLS)
            return HostFacts(
                name=connection.getHostname(),
                hypervisor=kind,
                cpus=int(cpus),
                memory_bytes=int(memory_mb) << 20,
                url=self.uri,
                cpu_mhz=int(mhz),
                reserves=True,
                cpu_used=self._meter.percent(times["user"] + times["kernel"], times["idle"] + times["iowait"]),
                # KiB; what files are cached in is given to whoever asks
                memory_used=memory["total"] - memory["free"] - memory["buffers"] - memory["cached"] << 10,
            )


def _owner_of(domain: Any) -> str | None:
    try:
        text = domain.metadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, METADATA, 0)
    except libvirt.libvirtError:
        return None
    return ElementTree.fromstring(text).get("owner")  # noqa: S314 - libvirt's


def _qemu_user(capabilities: str) -> tuple[int, int]:
    """User and group of QEMU as the daemon's security driver for owners has them."""
    for model in ElementTree.fromstring(capabilities).findall("host/secmodel"):  # noqa: S314 - libvirt's
        label = model.find("baselabel")
        if model.findtext("model") == "dac" and label is not None:
            found = re.fullmatch(r"\+(\d+):\+(\d+)", label.text or "")
            if found:
                return int(found[1]), int(found[2])
    return os.geteuid(), os.getegid()
