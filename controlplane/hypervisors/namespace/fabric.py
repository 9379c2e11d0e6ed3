"""The fabric: one network namespace per data directory that holds the bridges of all segments.

It is pinned by a bind mount, so the bridges stay when the control plane goes, and the machine's own network
namespace is never entered or changed.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

from appliance.errors import CommandError
from appliance.run import run
from controlplane.hypervisors import shaping, syscalls
from controlplane.hypervisors.base import HypervisorError, Nic, Segment
from controlplane.hypervisors.bridges import CONTROL, Bridges, bridge_name, errno_of, port_name, set_sysctl

#: Below /proc/sys/net. The fabric switches frames and is a host on the control network alone; a machine that forwards
#: hands that on to a new namespace.
_NO_HOST = {
    "ipv4/ip_forward": "0",
    # packets only from where the way back leads: the control network is the only one with a route
    "ipv4/conf/all/rp_filter": "1",
    "ipv4/conf/all/arp_ignore": "1",
    "ipv6/conf/all/disable_ipv6": "1",
    "ipv6/conf/default/disable_ipv6": "1",
}


class Fabric(Bridges):
    """Bridges and ports in a namespace of their own. Safe to call from any thread; calls take turns."""

    def __init__(self, directory: Path) -> None:
        self._pin = directory / "net"
        super().__init__(directory / "segments.json", lambda: os.open(self._pin, os.O_RDONLY | os.O_CLOEXEC))

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
        super().open()
        self.ensure_segment(Segment(CONTROL))
        self.call(self._remove_unknown_bridges)

    def remove(self) -> None:
        """Remove the fabric with all its bridges."""
        self.close()
        if self.pinned():
            syscalls.unmount(self._pin)
        self._pin.unlink(missing_ok=True)
        self._file.unlink(missing_ok=True)
        self._segments = {}

    def pinned(self) -> bool:
        """Whether the namespace is there: its file is then on nsfs instead of the data directory's file system."""
        return self._pin.exists() and self._pin.stat().st_dev != self._pin.parent.stat().st_dev

    def _prepare(self) -> None:
        super()._prepare()
        self.netlink.link("set", index=self.index("lo"), state="up")
        for name, value in _NO_HOST.items():
            set_sysctl(name, value)

    def _remove_unknown_bridges(self) -> None:
        known = {bridge_name(name) for name in self._segments}
        for name, index in self.links("br"):
            if name not in known:
                self.netlink.link("del", index=index)

    # --- ports ----------------------------------------------------------------------------------------------

    def plug(self, instance_id: str, nic: Nic, namespace_of: int, name: str) -> None:
        """Give the network namespace of process ``namespace_of`` the NIC; nothing to do when it has it.

        Its name there is ``name``, or the next free one of the same stem when that is taken.
        """
        self.call(self._plug, instance_id, nic, namespace_of, name)

    def _plug(self, instance_id: str, nic: Nic, namespace_of: int, name: str) -> None:
        segment = self._segments.get(nic.segment)
        if segment is None:
            raise HypervisorError(f"there is no segment {nic.segment}; ensure it before its first NIC")
        port = port_name(instance_id, nic.mac)
        if self.find(port) is not None:
            return
        bridge = self.index(bridge_name(nic.segment))
        with Path(f"/proc/{namespace_of}/ns/net").open("rb") as namespace:
            for candidate in names(name):
                peer = {"ifname": candidate, "address": nic.mac, "mtu": segment.mtu, "net_ns_fd": namespace.fileno()}
                try:
                    self.netlink.link("add", ifname=port, kind="veth", mtu=segment.mtu, master=bridge, peer=peer)
                except Exception as error:
                    if errno_of(error) != errno.EEXIST:
                        raise
                else:
                    break
            else:
                raise HypervisorError(f"{instance_id} has no interface name left for NIC {nic.mac}")
        index = self.index(port)
        if nic.segment == CONTROL:
            # appliances reach the control plane only, never each other (bridge(8): isolated)
            self.netlink.brport("set", index=index, isolated=1)
        if nic.rate_mbit:
            shaping.shape_port(self.netlink, port, nic.rate_mbit, segment.mtu)
        self.netlink.link("set", index=index, ifalias=f"{instance_id} {nic.mac}", state="up")


def names(first: str, count: int = 64) -> list[str]:
    """Interface names to try: ``first``, then the same stem with higher numbers."""
    stem = first.rstrip("0123456789")
    number = int(first[len(stem) :] or 0)
    return [f"{stem}{number + step}" for step in range(count)]
