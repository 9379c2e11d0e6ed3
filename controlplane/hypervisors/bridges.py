"""Bridges of segments in one network namespace, and how they are wired to those of other hosts.

One thread lives in the namespace for good; whatever must happen there (netlink, making a socket) is done by it, so no
other thread ever changes its namespace.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import socket
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from controlplane.hypervisors import shaping, syscalls
from controlplane.hypervisors.base import HypervisorError, Nic, Segment, Wire
from controlplane.hypervisors.records import write_atomically

log = logging.getLogger(__name__)

CONTROL = "control"
CONTROL_ADDRESS, CONTROL_PREFIX = "169.254.0.1", 16
#: of the UDP header and what else a tunnel adds to a frame (RFC 7348, over IPv4)
VXLAN_OVERHEAD, VXLAN_PORT = 50, 4789

#: Below /proc/sys/net, for each bridge: it is an interface of the namespace, but the namespace is no host on it.
#: Without these, guests would get answers from, and a way to, whatever else is there (ip-sysctl of the kernel).
_NO_HOST = {
    "ipv6/conf/{}/disable_ipv6": "1",
    "ipv4/conf/{}/arp_ignore": "1",
    "ipv4/conf/{}/rp_filter": "1",
}

Result = TypeVar("Result")


@contextmanager
def accepting(number: int) -> Iterator[None]:
    """Take an error with this errno to mean that the thing is so already."""
    try:
        yield
    except Exception as error:
        if errno_of(error) != number:
            raise


def errno_of(error: Exception) -> int | None:
    """The kernel's number of what went wrong."""
    # pyroute2's NetlinkError is no OSError and has the number as ``code``
    number: int | None = getattr(error, "code", None) or getattr(error, "errno", None)
    return number


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def bridge_name(segment: str) -> str:
    """Interface names end at 15 characters, segment names do not; the alias has the name in full."""
    return "br" + _digest(segment)


def uplink_name(segment: str) -> str:
    """The bridge's port to other hosts."""
    return "up" + _digest(segment)


def port_name(instance_id: str, mac: str) -> str:
    """The host's end of an instance's NIC."""
    return "gh" + _digest(f"{instance_id}/{mac.lower()}")


def bridge_mac(segment: str, host: str = CONTROL_ADDRESS) -> str:
    """A fixed address: a bridge without one takes the lowest of its ports and changes it as they come and go.

    Each host, named by its address on the control network, has its own: they meet on the segment.
    """
    seed = segment if host == CONTROL_ADDRESS else f"{segment} {host}"
    octets = bytes([0x02]) + hashlib.sha256(seed.encode()).digest()[:5]
    return octets.hex(":")


def vxlan_group(vni: int) -> str:
    """The multicast group that carries a tunnel's broadcasts; one a tunnel, as CloudStack's KVM hosts have it."""
    return f"239.{vni >> 16 & 255}.{vni >> 8 & 255}.{vni & 255}"


def set_sysctl(name: str, value: str) -> None:
    """Write a file below /proc/sys/net of the thread's namespace unless it says so already or is not there."""
    path = Path("/proc/sys/net", name)
    if path.exists() and path.read_text().strip() != value:
        path.write_text(value)


class Bridges:
    """Bridges of one namespace. Safe to call from any thread; calls take turns.

    ``file`` records the segments. ``namespace`` opens the network namespace to work in; None is this process's own.
    ``control_address`` is this host's on the control network.
    """

    def __init__(
        self, file: Path, namespace: Callable[[], int] | None = None, control_address: str = CONTROL_ADDRESS
    ) -> None:
        self._file = file
        self._namespace = namespace
        self._control_address = control_address
        self._segments: dict[str, Segment] = {}
        #: those that are known to be there as recorded
        self._ready: set[str] = set()
        self._thread: ThreadPoolExecutor | None = None
        self.netlink: Any = None

    # --- life -----------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Bring back the segments that are recorded. One that fails is left out and told of in the log."""
        self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._thread = ThreadPoolExecutor(1, "bridges", self._enter)
        self.call(self._prepare)
        self._segments = load_segments(self._file)
        for segment in list(self._segments.values()):
            try:
                self.ensure_segment(segment)
            except HypervisorError as error:
                log.error("segment %s does not come back: %s", segment.name, error)

    def close(self) -> None:
        """Leave the bridges as they are and end the thread."""
        if self._thread is not None:
            self.call(self._close_netlink)
            self._thread.shutdown()
            self._thread = None
        self._ready = set()

    def remove_all(self) -> None:
        """Remove every recorded bridge."""
        for name in list(self._segments):
            self.remove_segment(name)
        self._file.unlink(missing_ok=True)

    def call(self, function: Callable[..., Result], *arguments: object) -> Result:
        """Run ``function`` in the namespace. Errors of the kernel become HypervisorError."""
        if self._thread is None:
            raise HypervisorError("the hypervisor is not open")
        try:
            return self._thread.submit(function, *arguments).result()
        except Exception as error:
            if isinstance(error, HypervisorError) or errno_of(error) is None:
                raise
            raise HypervisorError(
                f"the network could not {function.__name__.strip('_')} {arguments}: {error}"
            ) from error

    def _enter(self) -> None:
        if self._namespace is not None:
            descriptor = self._namespace()
            try:
                syscalls.setns(descriptor, syscalls.CLONE_NEWNET)
            finally:
                os.close(descriptor)

    def _prepare(self) -> None:
        # not at the top: it takes a quarter of a second, and only the process that owns the bridges needs it
        from pyroute2 import IPRoute

        self.netlink = IPRoute()

    def _close_netlink(self) -> None:
        if self.netlink is not None:
            self.netlink.close()
            self.netlink = None

    # --- segments -------------------------------------------------------------------------------------------

    def segments(self) -> dict[str, Segment]:
        return dict(self._segments)

    def ensure_segment(self, segment: Segment) -> None:
        """Make the segment as asked for, whatever it was before. Raises HypervisorError."""
        if self._segments.get(segment.name) == segment and segment.name in self._ready:
            return
        self.call(self._ensure_recorded, segment)

    def remove_segment(self, name: str) -> None:
        self.call(self._remove, name)

    def _save(self, segments: dict[str, Segment]) -> None:
        save_segments(self._file, segments)
        self._segments = segments

    def _ensure_recorded(self, segment: Segment) -> None:
        before = self._segments
        # first the record: whatever a crash leaves has one
        if before.get(segment.name) != segment:
            self._save({**before, segment.name: segment})
        try:
            self._ensure(segment)
        except Exception:
            if segment.name not in before:
                self._remove(segment.name)
            raise
        self._ready.add(segment.name)

    def _ensure(self, segment: Segment) -> None:
        name = bridge_name(segment.name)
        index = self.find(name)
        if index is None:
            self.netlink.link(
                "add",
                ifname=name,
                kind="bridge",
                address=bridge_mac(segment.name, self._control_address),
                # a new port forwards at once; there is one bridge a segment, so there can be no loop
                br_stp_state=0,
                br_forward_delay=0,
                # no querier here: with snooping on, multicast would be lost after some minutes
                br_mcast_snooping=0,
            )
            index = self.index(name)
        for key, value in _NO_HOST.items():
            set_sysctl(key.format(name), value)
        self.netlink.link("set", index=index, ifalias=segment.name)
        self._ensure_uplink(segment, index)
        self.netlink.link("set", index=index, mtu=segment.mtu, state="up")
        if segment.name == CONTROL:
            with accepting(errno.EEXIST):
                self.netlink.addr("add", index=index, address=self._control_address, prefixlen=CONTROL_PREFIX)
            # an appliance that boots is asked for its address ten times a second, not once (arp(7)): otherwise the
            # control plane notices up to a second late that it is there
            with suppress(OSError):  # only speed is lost where /proc/sys is read-only
                Path(f"/proc/sys/net/ipv4/neigh/{name}/retrans_time_ms").write_text("100")

    def _remove(self, name: str) -> None:
        for link in (uplink_name(name), bridge_name(name)):
            self.delete(link)
        self._ready.discard(name)
        if name in self._segments:
            self._save({key: value for key, value in self._segments.items() if key != name})

    # --- wires ----------------------------------------------------------------------------------------------

    def _ensure_uplink(self, segment: Segment, bridge: int) -> None:
        name, alias = uplink_name(segment.name), _alias(segment)
        index = self.find(name)
        if index is not None and self._alias_of(index) == alias:
            return
        if index is not None:
            self.netlink.link("del", index=index)
        if segment.wire is None:
            return
        self._add_uplink(name, segment, segment.wire)
        index = self.index(name)
        try:
            set_sysctl(f"ipv6/conf/{name}/disable_ipv6", "1")
            self.netlink.link("set", index=index, mtu=segment.mtu, master=bridge, state="up")
            self.netlink.link("set", index=index, ifalias=alias)
        except Exception:
            self.netlink.link("del", index=index)
            raise

    def _add_uplink(self, name: str, segment: Segment, wire: Wire) -> None:
        physical = self.find(wire.interface)
        if physical is None:
            raise HypervisorError(
                f"segment {segment.name} goes over {wire.interface}, which this host does not have; make that "
                "interface or change the physical network's label"
            )
        room = self._mtu(physical)
        needed = segment.mtu + (VXLAN_OVERHEAD if wire.isolation == "vxlan" else 0)
        if room < needed:
            raise HypervisorError(
                f"segment {segment.name} with an MTU of {segment.mtu} needs one of {needed} on {wire.interface}, which "
                f"has {room}; raise that, or give the network an MTU of {segment.mtu - (needed - room)}"
            )
        try:
            if wire.isolation == "vxlan":
                self.netlink.link(
                    "add",
                    ifname=name,
                    kind="vxlan",
                    vxlan_id=wire.tag,
                    vxlan_link=physical,
                    vxlan_group=vxlan_group(wire.tag),
                    vxlan_port=VXLAN_PORT,
                    vxlan_ttl=10,
                )
            elif wire.isolation == "vlan":
                self.netlink.link("add", ifname=name, kind="vlan", link=physical, vlan_id=wire.tag)
            else:
                self._join(name, physical, wire.interface)
        except Exception as error:
            if errno_of(error) in (errno.EOPNOTSUPP, errno.ENODEV):
                raise HypervisorError(
                    f"this host's kernel has no {wire.isolation}; load its module ({_MODULES[wire.isolation]})"
                ) from error
            if errno_of(error) == errno.EEXIST:
                raise HypervisorError(
                    f"{wire.isolation} {wire.tag} of {wire.interface} is taken by another interface of this host; "
                    "remove that, or give the network another id"
                ) from error
            raise

    def _join(self, name: str, physical: int, label: str) -> None:
        """An untagged wire: a pair of ports to the bridge that the operator made of the interface."""
        link = self.netlink.get_links(physical)[0]
        if link.get(("linkinfo", "kind")) != "bridge":
            raise HypervisorError(
                f"{label} carries untagged traffic and must be a bridge; put the interface in one and name that"
            )
        peer = f"ut{name[2:]}"
        self.netlink.link("add", ifname=name, kind="veth", peer={"ifname": peer})
        self.netlink.link("set", index=self.index(peer), master=physical, state="up")

    # --- ports of instances ---------------------------------------------------------------------------------

    def unplug(self, instance_id: str, mac: str) -> None:
        self.call(self._delete_port, port_name(instance_id, mac))

    def set_rate(self, instance_id: str, nic: Nic) -> None:
        """Give the NIC's port the rate that ``nic`` says; nothing to do when it is not plugged in."""
        self.call(self._set_rates, [(instance_id, nic)])

    def set_rates(self, nics: list[tuple[str, Nic]]) -> None:
        """The same for all NICs (instance id, NIC) of all instances; what is right already is left alone."""
        self.call(self._set_rates, nics)

    def ports(self) -> list[str]:
        """Names of all NICs' ends on the host."""
        return [name for name, _ in self.call(self.links, "gh")]

    def delete_port(self, name: str) -> None:
        self.call(self._delete_port, name)

    def _delete_port(self, name: str) -> None:
        self.delete(name)
        shaping.forget_port(self.netlink, name)

    def _set_rates(self, nics: list[tuple[str, Nic]]) -> None:
        mtus = {name: segment.mtu for name, segment in self._segments.items()}
        ports = [(port_name(instance_id, nic.mac), nic, mtus[nic.segment]) for instance_id, nic in nics]
        shaping.shape_ports(self.netlink, ports)

    # --- netlink, in the thread -----------------------------------------------------------------------------

    def links(self, prefix: str) -> list[tuple[str, int]]:
        """Names and indexes of the interfaces whose names begin so."""
        links = [(str(link.get("ifname")), int(link.get("index"))) for link in self.netlink.get_links()]
        return [link for link in links if link[0].startswith(prefix)]

    def find(self, name: str) -> int | None:
        """Index of an interface, None when there is none."""
        # one ioctl; asking netlink by name reads every link, tens of milliseconds with thousands of ports
        try:
            return socket.if_nametoindex(name)
        except OSError:
            return None

    def index(self, name: str) -> int:
        return socket.if_nametoindex(name)

    def delete(self, name: str) -> None:
        index = self.find(name)
        if index is not None:
            with accepting(errno.ENODEV):
                self.netlink.link("del", index=index)

    def _mtu(self, index: int) -> int:
        return int(self.netlink.get_links(index)[0].get("mtu"))

    def _alias_of(self, index: int) -> str | None:
        alias: str | None = self.netlink.get_links(index)[0].get("ifalias")
        return alias

    # --- sockets --------------------------------------------------------------------------------------------

    def socket(self) -> socket.socket:
        """A TCP socket of the namespace; it stays one in whatever thread it is used."""
        return self.call(socket.socket, socket.AF_INET, socket.SOCK_STREAM)


_MODULES = {"vxlan": "vxlan", "vlan": "8021q", "untagged": "veth"}


def _alias(segment: Segment) -> str:
    wire = segment.wire
    return f"{segment.name} {wire.isolation} {wire.tag} {wire.interface} {segment.mtu}" if wire else ""


def load_segments(file: Path) -> dict[str, Segment]:
    """The segments recorded in ``file``, none when there is no such file."""
    try:
        raw: dict[str, Any] = json.loads(file.read_text())
    except FileNotFoundError:
        return {}
    return {name: _decode(name, item) for name, item in raw.items()}


def save_segments(file: Path, segments: Mapping[str, Segment]) -> None:
    write_atomically(file, json.dumps({name: asdict(item) for name, item in segments.items()}))


def _decode(name: str, item: Any) -> Segment:
    # before there were wires the record was the MTU alone
    if isinstance(item, int):
        return Segment(name, item)
    wire = Wire(**item["wire"]) if item.get("wire") else None
    return Segment(name, item["mtu"], wire)
