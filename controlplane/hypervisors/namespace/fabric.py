"""The fabric: one network namespace per data directory that holds the bridges of all segments.

It is pinned by a bind mount, so the bridges stay when the control plane goes, and the machine's own network
namespace is never entered or changed. One thread lives in the fabric for good; whatever must happen there
(netlink, making a socket) is done by it, so no other thread ever changes its namespace.
"""

from __future__ import annotations

import errno
import hashlib
import json
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from appliance.errors import CommandError
from appliance.run import run
from controlplane.hypervisors.base import HypervisorError, Nic, Segment
from controlplane.hypervisors.namespace import syscalls
from controlplane.hypervisors.namespace.records import write_atomically

CONTROL = "control"
CONTROL_ADDRESS, CONTROL_PREFIX = "169.254.0.1", 16

#: Below /proc/sys/net. The fabric switches frames and is a host on the control network alone. Its bridges are
#: interfaces of its own, though: without these, guests and the outside would get an answer from, and on a machine that
#: forwards (a new namespace takes that over) a way through to, the control network (ip-sysctl of the kernel).
_NO_HOST = {
    "ipv4/ip_forward": "0",
    # packets only from where the way back leads: the control network is the only one with a route
    "ipv4/conf/all/rp_filter": "1",
    "ipv4/conf/all/arp_ignore": "1",
    "ipv6/conf/all/disable_ipv6": "1",
    "ipv6/conf/default/disable_ipv6": "1",
}

Result = TypeVar("Result")


@contextmanager
def accepting(number: int) -> Iterator[None]:
    """Take an error with this errno to mean that the thing is so already."""
    try:
        yield
    except Exception as error:
        if _errno(error) != number:
            raise


def _errno(error: Exception) -> int | None:
    # pyroute2's NetlinkError is no OSError and has the number as ``code``
    number: int | None = getattr(error, "code", None) or getattr(error, "errno", None)
    return number


def bridge_name(segment: str) -> str:
    """Interface names end at 15 characters, segment names do not; the alias has the name in full."""
    return "br" + hashlib.sha256(segment.encode()).hexdigest()[:12]


def port_name(instance_id: str, mac: str) -> str:
    """The fabric's end of an instance's NIC."""
    return "gh" + hashlib.sha256(f"{instance_id}/{mac.lower()}".encode()).hexdigest()[:12]


def bridge_mac(segment: str) -> str:
    """A fixed address: a bridge without one takes the lowest of its ports and changes it as they come and go."""
    octets = bytes([0x02]) + hashlib.sha256(segment.encode()).digest()[:5]
    return octets.hex(":")


class Fabric:
    """Bridges and ports. Safe to call from any thread; calls take turns."""

    def __init__(self, directory: Path) -> None:
        self._pin = directory / "net"
        self._segments_file = directory / "segments.json"
        self._segments: dict[str, Segment] = {}
        self._thread: ThreadPoolExecutor | None = None
        self._netlink: Any = None

    # --- life -----------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Make the namespace or take over the one that is there; bring back the segments."""
        self._pin.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not self.pinned():
            self._pin.touch(mode=0o600)
            try:
                run(["unshare", f"--net={self._pin}", "true"])
            except CommandError as error:
                raise HypervisorError(
                    f"cannot make a network namespace; run as root or see README about running without ({error})"
                ) from error
        self._thread = ThreadPoolExecutor(1, "fabric", self._enter)
        self._call(self._prepare)
        self._segments = self._load_segments()
        for segment in self._segments.values():
            self._call(self._ensure, segment)
        self.ensure_segment(Segment(CONTROL))
        self._call(self._remove_unknown_bridges)

    def close(self) -> None:
        """Leave the fabric as it is and end the thread in it."""
        if self._thread is not None:
            self._call(self._close_netlink)
            self._thread.shutdown()
            self._thread = None

    def remove(self) -> None:
        """Remove the fabric with all its bridges."""
        self.close()
        if self.pinned():
            syscalls.unmount(self._pin)
        self._pin.unlink(missing_ok=True)
        self._segments_file.unlink(missing_ok=True)
        self._segments = {}

    def pinned(self) -> bool:
        """Whether the namespace is there: its file is then on nsfs instead of the data directory's file system."""
        return self._pin.exists() and self._pin.stat().st_dev != self._pin.parent.stat().st_dev

    def _enter(self) -> None:
        with self._pin.open("rb") as file:
            syscalls.setns(file.fileno(), syscalls.CLONE_NEWNET)

    def _call(self, function: Callable[..., Result], *arguments: object) -> Result:
        if self._thread is None:
            raise HypervisorError("the hypervisor is not open")
        try:
            return self._thread.submit(function, *arguments).result()
        except Exception as error:
            if isinstance(error, HypervisorError) or _errno(error) is None:
                raise
            raise HypervisorError(
                f"the fabric could not {function.__name__.strip('_')} {arguments}: {error}"
            ) from error

    def _prepare(self) -> None:
        # not at the top: it takes a quarter of a second, and only the process that owns the fabric needs it
        from pyroute2 import IPRoute

        self._netlink = IPRoute()
        self._netlink.link("set", index=self._index("lo"), state="up")
        for name, value in _NO_HOST.items():
            path = Path("/proc/sys/net", name)
            if path.exists() and path.read_text().strip() != value:
                path.write_text(value)

    def _close_netlink(self) -> None:
        if self._netlink is not None:
            self._netlink.close()
            self._netlink = None

    # --- segments -------------------------------------------------------------------------------------------

    def segments(self) -> dict[str, Segment]:
        return dict(self._segments)

    def ensure_segment(self, segment: Segment) -> None:
        self._call(self._ensure_recorded, segment)

    def remove_segment(self, name: str) -> None:
        self._call(self._remove, name)

    def _load_segments(self) -> dict[str, Segment]:
        try:
            return {name: Segment(name, mtu) for name, mtu in json.loads(self._segments_file.read_text()).items()}
        except FileNotFoundError:
            return {}

    def _save_segments(self, segments: dict[str, Segment]) -> None:
        write_atomically(self._segments_file, json.dumps({name: item.mtu for name, item in segments.items()}))
        self._segments = segments

    def _ensure_recorded(self, segment: Segment) -> None:
        if self._segments.get(segment.name) == segment:
            return
        self._ensure(segment)
        self._save_segments({**self._segments, segment.name: segment})

    def _ensure(self, segment: Segment) -> None:
        name = bridge_name(segment.name)
        index = self._find(name)
        if index is None:
            self._netlink.link(
                "add",
                ifname=name,
                kind="bridge",
                address=bridge_mac(segment.name),
                # a new port forwards at once; there is one bridge a segment, so there can be no loop
                br_stp_state=0,
                br_forward_delay=0,
                # no querier here: with snooping on, multicast would be lost after some minutes
                br_mcast_snooping=0,
            )
            index = self._index(name)
        self._netlink.link("set", index=index, mtu=segment.mtu, ifalias=segment.name, state="up")
        if segment.name == CONTROL:
            with accepting(errno.EEXIST):
                self._netlink.addr("add", index=index, address=CONTROL_ADDRESS, prefixlen=CONTROL_PREFIX)
            # an appliance that boots is asked for its address ten times a second, not once (arp(7)): otherwise the
            # control plane notices up to a second late that it is there
            with suppress(OSError):  # only speed is lost where /proc/sys is read-only
                Path(f"/proc/sys/net/ipv4/neigh/{name}/retrans_time_ms").write_text("100")

    def _remove(self, name: str) -> None:
        index = self._find(bridge_name(name))
        if index is not None:
            self._netlink.link("del", index=index)
        if name in self._segments:
            self._save_segments({key: value for key, value in self._segments.items() if key != name})

    def _remove_unknown_bridges(self) -> None:
        known = {bridge_name(name) for name in self._segments}
        for name, index in self._links("br"):
            if name not in known:
                self._netlink.link("del", index=index)

    # --- ports ----------------------------------------------------------------------------------------------

    def plug(self, instance_id: str, nic: Nic, namespace_of: int, name: str) -> None:
        """Give the network namespace of process ``namespace_of`` the NIC; nothing to do when it has it.

        Its name there is ``name``, or the next free one of the same stem when that is taken.
        """
        self._call(self._plug, instance_id, nic, namespace_of, name)

    def unplug(self, instance_id: str, mac: str) -> None:
        self._call(self._delete, port_name(instance_id, mac))

    def ports(self) -> list[str]:
        """Names of all NICs' ends in the fabric."""
        return [name for name, _ in self._call(self._links, "gh")]

    def delete_port(self, name: str) -> None:
        self._call(self._delete, name)

    def _plug(self, instance_id: str, nic: Nic, namespace_of: int, name: str) -> None:
        segment = self._segments.get(nic.segment)
        if segment is None:
            raise HypervisorError(f"there is no segment {nic.segment}; ensure it before its first NIC")
        port = port_name(instance_id, nic.mac)
        if self._find(port) is not None:
            return
        bridge = self._index(bridge_name(nic.segment))
        with Path(f"/proc/{namespace_of}/ns/net").open("rb") as namespace:
            for candidate in names(name):
                peer = {"ifname": candidate, "address": nic.mac, "mtu": segment.mtu, "net_ns_fd": namespace.fileno()}
                try:
                    self._netlink.link("add", ifname=port, kind="veth", mtu=segment.mtu, master=bridge, peer=peer)
                except Exception as error:
                    if _errno(error) != errno.EEXIST:
                        raise
                else:
                    break
            else:
                raise HypervisorError(f"{instance_id} has no interface name left for NIC {nic.mac}")
        index = self._index(port)
        if nic.segment == CONTROL:
            # appliances reach the control plane only, never each other (bridge(8): isolated)
            self._netlink.brport("set", index=index, isolated=1)
        self._netlink.link("set", index=index, ifalias=f"{instance_id} {nic.mac}", state="up")

    def _delete(self, name: str) -> None:
        index = self._find(name)
        if index is not None:
            with accepting(errno.ENODEV):
                self._netlink.link("del", index=index)

    # --- sockets --------------------------------------------------------------------------------------------

    def socket(self) -> socket.socket:
        """A TCP socket of the fabric; it stays one in whatever thread it is used."""
        return self._call(socket.socket, socket.AF_INET, socket.SOCK_STREAM)

    # --- netlink --------------------------------------------------------------------------------------------

    def _links(self, prefix: str) -> list[tuple[str, int]]:
        links = [(str(link.get("ifname")), int(link.get("index"))) for link in self._netlink.get_links()]
        return [link for link in links if link[0].startswith(prefix)]

    def _find(self, name: str) -> int | None:
        # one ioctl; asking netlink by name reads every link, tens of milliseconds with thousands of ports
        try:
            return socket.if_nametoindex(name)
        except OSError:
            return None

    def _index(self, name: str) -> int:
        return socket.if_nametoindex(name)


def names(first: str, count: int = 64) -> list[str]:
    """Interface names to try: ``first``, then the same stem with higher numbers."""
    stem = first.rstrip("0123456789")
    number = int(first[len(stem) :] or 0)
    return [f"{stem}{number + step}" for step in range(count)]
