"""The rate of an instance's NIC, enforced on the host's end of it: its port."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from appliance import shaping
from appliance.shaping import Shape
from controlplane.hypervisors.base import Nic


def _shape(port: str, rate_mbit: int, mtu: int) -> Shape:
    # port names are "gh" and a digest
    return Shape(port, rate_mbit, f"gi{port[2:]}", mtu)


def shape_port(netlink: Any, port: str, rate_mbit: int, mtu: int) -> None:
    """Limit what passes a port in each direction; 0 for no limit. Doing so twice changes nothing.

    Call it in the network namespace of the port, with an IPRoute of it: for a new port before it is up, so that no
    packet passes unlimited.
    """
    shaping.apply(netlink, _shape(port, rate_mbit, mtu))


def shape_ports(netlink: Any, ports: Iterable[tuple[str, Nic, int]]) -> None:
    """Set right what ports (name, NIC, MTU) have other rates than they should, e.g. after a crash; cheap if none do."""
    known = shaping.buckets(netlink)
    for port, nic, mtu in ports:
        shape = _shape(port, nic.rate_mbit, mtu)
        index = shaping.find(port)
        wanted = shaping.bucket(shape.mbit, mtu) if shape.limited else None
        # the bucket on the port is the last that is set, and the first that goes
        if index is not None and known.get(index) != wanted:
            shaping.apply(netlink, shape)


def forget_port(netlink: Any, port: str) -> None:
    """Remove what is left of the shaping of a port that is gone."""
    shaping.remove_twin(netlink, _shape(port, 0, 0).twin)
