"""One host: its libvirtd, and the bridges in that libvirtd's network namespace."""

from __future__ import annotations

import hashlib
import logging
import os
import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit
from xml.etree import ElementTree

import libvirt

from controlplane.hypervisors.base import HostFacts, HypervisorError
from controlplane.hypervisors.bridges import Bridges
from controlplane.hypervisors.libvirt import acceleration
from controlplane.hypervisors.libvirt.domain import METADATA
from controlplane.hypervisors.libvirt.storage import Storage
from controlplane.hypervisors.portfilter.portfilter import PortFilter

log = logging.getLogger(__name__)

#: libvirt's daemon for QEMU by itself, and the one for everything
_SOCKETS = ("/run/libvirt/virtqemud-sock", "/run/libvirt/libvirt-sock")
#: seconds that a domain's NIC has to be let go by its guest
_UNPLUG = 20.0

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
    """The libvirtd at ``uri``. ``directory`` is for what is noted of this host. Safe to call from any thread."""

    def __init__(self, uri: str, directory: Path, storage: Storage, control_address: str) -> None:
        self.uri = uri
        self._directory = directory / hashlib.sha256(uri.encode()).hexdigest()[:12]
        self._cache = directory / "acceleration.json"
        self._storage = storage
        self._lock = threading.Lock()
        self._connection: Any = None
        self.bridges = Bridges(self._directory / "segments.json", lambda: open_namespace(uri), control_address)
        self.control_address = control_address
        self.filter = PortFilter(self.bridges.call, self._directory / "policy.json", own=False)
        self.accelerator: acceleration.Accelerator = "qemu"
        #: whether everything of it has been taken over
        self.ready = False
        #: user and group that QEMU runs as
        self.qemu_user = (0, 0)

    # --- life -----------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Connect. Raises HypervisorError saying what to do when nothing answers there."""
        if urlsplit(self.uri).hostname:
            raise HypervisorError(f"{self.uri} is on another machine; only libvirt daemons of this one can be used yet")
        connection = self.connection()
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.qemu_user = _qemu_user(connection.getCapabilities())
        self.accelerator = acceleration.accelerator(connection, self._storage.directory, self._cache)
        self.bridges.open()

    def close(self) -> None:
        self.bridges.close()
        with self._lock:
            if self._connection is not None:
                with suppress(libvirt.libvirtError):
                    self._connection.close()
                self._connection = None

    def forget(self) -> None:
        """Remove what is on the host besides domains: bridges and the ports' filter."""
        self.bridges.remove_all()
        self.filter.forget()

    def connection(self) -> Any:
        """The connection, made anew when the daemon was restarted."""
        with self._lock:
            if self._connection is not None and not self._connection.isAlive():
                self._connection = None
            if self._connection is None:
                try:
                    self._connection = libvirt.open(self.uri)
                except libvirt.libvirtError as error:
                    raise HypervisorError(
                        f"libvirt at {self.uri} does not answer ({error}); start libvirtd there, or name another with "
                        "--libvirt-uri"
                    ) from error
            return self._connection

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

    def attach(self, instance_id: str, xml: str) -> None:
        domain = self.find(instance_id)
        if domain is not None:
            with told(f"plugging a NIC into {instance_id}"):
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
        deadline = time.monotonic() + _UNPLUG
        asked = 0.0
        while (xml := self.macs(instance_id).get(mac.lower())) is not None:
            domain = self.find(instance_id)
            # a guest that boots does not listen yet: it is asked again
            if domain is not None and time.monotonic() - asked > 5:
                asked = time.monotonic()
                try:
                    domain.detachDeviceFlags(xml, libvirt.VIR_DOMAIN_AFFECT_LIVE)
                except libvirt.libvirtError as error:
                    if time.monotonic() > deadline:
                        raise HypervisorError(f"unplugging {mac} from {instance_id}: {error}") from error
            if time.monotonic() > deadline:
                raise HypervisorError(f"{instance_id} does not let its NIC {mac} go; stop it and try again")
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
            return HostFacts(
                name=self.connection().getHostname(),
                hypervisor=kind,
                cpus=int(cpus),
                memory_bytes=int(memory_mb) << 20,
                url=self.uri,
                cpu_mhz=int(mhz),
                reserves=True,
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


def socket_path(uri: str) -> Path:
    """The socket of a local daemon (https://libvirt.org/uri.html)."""
    named = parse_qs(urlsplit(uri).query).get("socket")
    if named:
        return Path(named[0])
    for path in map(Path, _SOCKETS):
        if path.exists():
            return path
    raise HypervisorError(f"there is no libvirt daemon for QEMU on this machine ({' or '.join(_SOCKETS)}); start one")


def open_namespace(uri: str) -> int:
    """A descriptor of the network namespace that a local daemon makes its taps in."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as daemon:
        path = socket_path(uri)
        try:
            daemon.connect(str(path))
        except OSError as error:
            raise HypervisorError(f"libvirt at {path} does not answer ({error}); start libvirtd") from error
        # unix(7), SO_PEERCRED
        pid, *_ = struct.unpack("3i", daemon.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))
        return os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
