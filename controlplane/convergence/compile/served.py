"""What sections are compiled from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from ipaddress import IPv4Address

from appliance.services.interfaces.model import Interfaces
from controlplane.convergence.compile.interfaces import interfaces_of
from controlplane.convergence.compile.memo import Memo
from controlplane.convergence.intent.rows import GuestNetwork, Intent, PublicAddress


@dataclass(frozen=True)
class Served:
    """One router's intent with what its document serves of it."""

    intent: Intent
    memo: Memo

    @cached_property
    def interfaces(self) -> Interfaces:
        return interfaces_of(self.intent)

    @cached_property
    def names(self) -> Mapping[str, str]:
        """Id of a network -> name of the NIC on it."""
        return {nic.network: nic.name for nic in self.intent.nics if nic.role == "guest"}

    @cached_property
    def networks(self) -> tuple[GuestNetwork, ...]:
        return tuple(network for network in self.intent.networks if network.id in self.names)

    @cached_property
    def ids(self) -> frozenset[str]:
        """Of ``networks``."""
        return frozenset(network.id for network in self.networks)

    @cached_property
    def addresses(self) -> Mapping[str, PublicAddress]:
        """Public addresses by id. One whose NIC is not plugged in yet comes with the NIC."""
        placed = {address.ip for nic in self.interfaces.of_role("public") for address in nic.addresses}
        return {public.id: public for public in self.intent.addresses if IPv4Address(public.address) in placed}

    def offering(self, *services: str) -> Mapping[str, str]:
        """Id -> name of the NIC, of the networks whose offering has one of ``services``."""
        wanted = set(services)
        return {network.id: self.names[network.id] for network in self.networks if network.services & wanted}
