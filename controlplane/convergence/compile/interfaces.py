"""The NICs of an appliance."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from typing import Protocol

from appliance.services.interfaces.model import Interface, Interfaces
from controlplane.convergence.intent.rows import CONTROL_PREFIX, ApplianceNic, GuestNetwork, PublicAddress


class Placed(Protocol):
    """What an intent says about NICs."""

    @property
    def control_address(self) -> str: ...
    @property
    def nics(self) -> Sequence[ApplianceNic]: ...
    @property
    def networks(self) -> Sequence[GuestNetwork]: ...
    @property
    def addresses(self) -> Sequence[PublicAddress]: ...


def interfaces_of(intent: Placed) -> Interfaces:
    """The NICs with the addresses that belong on each."""
    by_network = {network.id: network for network in intent.networks}
    return Interfaces(interfaces=tuple(_interface(nic, intent, by_network.get(nic.network)) for nic in intent.nics))


def _interface(nic: ApplianceNic, intent: Placed, network: GuestNetwork | None) -> Interface:
    addresses: list[IPv4Interface] = []
    gateway = None
    if nic.role == "control":
        addresses = [IPv4Interface(f"{intent.control_address}/{CONTROL_PREFIX}")]
    elif nic.role == "guest" and network is not None:
        addresses = [IPv4Interface((one.router, IPv4Network(one.cidr).prefixlen)) for one in network.subnets]
        if network.shared and network.subnets:
            gateway = IPv4Address(network.subnets[0].gateway)
    elif nic.role == "public":
        # the source NAT address is the primary one
        held = sorted(
            (public for public in intent.addresses if public.segment == nic.segment),
            key=lambda public: (not public.source_nat, IPv4Address(public.address)),
        )
        addresses = [IPv4Interface(f"{public.address}/{public.netmask}") for public in held]
        gateway = IPv4Address(held[0].gateway) if held else None
    mtu = network.mtu if network is not None else None
    return Interface(
        name=nic.name,
        mac=nic.mac,
        role=nic.role,
        network=nic.network,
        mtu=mtu,
        addresses=tuple(addresses),
        gateway=gateway,
    )
