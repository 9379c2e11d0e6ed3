"""What a host's filter is to enforce, as data: each instance's end on a bridge and what may pass it."""

from __future__ import annotations

from dataclasses import dataclass

from controlplane.hypervisors.base import Nic
from controlplane.hypervisors.bridges import bridge_name


@dataclass(frozen=True)
class Port:
    """What may pass one port of bridge ``bridge``. A trusted one (of an appliance) is not filtered.

    From a guest's come its ``mac`` and ``addresses`` (IPv4) alone. A ``secured`` one has security groups.
    """

    mac: str
    bridge: str
    addresses: tuple[str, ...] = ()
    secured: bool = False
    trusted: bool = False


def port_of(nic: Nic, *, appliance: bool) -> Port:
    """The port that a NIC asks for. Addresses count for a guest's only: appliances send for others."""
    bridge = bridge_name(nic.segment)
    if appliance or nic.trusted:
        return Port(nic.mac.lower(), bridge, trusted=True)
    return Port(nic.mac.lower(), bridge, nic.addresses, nic.secured)
