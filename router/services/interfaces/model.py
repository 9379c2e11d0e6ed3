"""Interfaces, addresses and routes of a router (guide: chapters 15.2 to 15.4, 15.27)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from appliance.schema.types import (
    Address,
    Frozen,
    InterfaceName,
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    MacAddress,
    find_duplicates,
)


class Interface(Frozen):
    """One NIC, found by its MAC and given ``name``.

    ``addresses``: the first is the primary, further ones are secondary public addresses. A guest or tier
    interface has its gateway address here. ``gateway`` is the next hop of a public or private-gateway interface.
    """

    name: InterfaceName
    mac: MacAddress
    role: Literal["guest", "control", "public", "private-gateway"]
    #: the control plane's UUID of the guest network (tier), public range or private gateway behind it
    network: str = ""
    mtu: Annotated[int, Field(ge=576, le=65535)] | None = None
    addresses: tuple[IPv4Interface, ...] = ()
    gateway: Address | None = None

    @property
    def subnets(self) -> tuple[IPv4Network, ...]:
        return tuple(dict.fromkeys(address.network for address in self.addresses))

    @model_validator(mode="after")
    def _check(self) -> Interface:
        if self.gateway is not None and not any(self.gateway in net for net in self.subnets):
            raise ValueError(f"gateway {self.gateway} is in none of the interface's subnets")
        if self.role == "guest" and self.gateway is not None:
            raise ValueError("a guest interface is the gateway and has none itself; leave gateway out")
        return self


class Route(Frozen):
    """A static route, e.g. through a VPC's private gateway."""

    destination: IPv4Network
    gateway: Address


class Redundancy(Frozen):
    """One of a pair of routers. Only the active one holds guest and public addresses; both hold control addresses."""

    state: Literal["active", "standby"]
    #: VRRP virtual router id (RFC 9568)
    group: Annotated[int, Field(ge=1, le=255)]
    priority: Annotated[int, Field(ge=1, le=254)]
    #: control address of the other router
    peer: Address


class Interfaces(Frozen):
    """All of a router's NICs. The first public interface with a gateway carries the default route."""

    interfaces: tuple[Interface, ...]
    routes: tuple[Route, ...] = ()
    redundancy: Redundancy | None = None

    def of_role(self, role: str) -> tuple[Interface, ...]:
        return tuple(interface for interface in self.interfaces if interface.role == role)

    def public_addresses(self) -> tuple[IPv4Address, ...]:
        return tuple(address.ip for nic in self.of_role("public") for address in nic.addresses)

    @model_validator(mode="after")
    def _check(self) -> Interfaces:
        for what, values in (
            ("name", [nic.name for nic in self.interfaces]),
            ("mac", [nic.mac for nic in self.interfaces]),
            ("address", [address.ip for nic in self.interfaces for address in nic.addresses]),
        ):
            if twice := find_duplicates(values):
                raise ValueError(f"{what} {twice[0]} is given to two interfaces")
        if len(self.of_role("control")) != 1:
            raise ValueError("exactly one interface must have the role control")
        guests = [(nic.name, net) for nic in self.of_role("guest") for net in nic.subnets]
        for index, (name, net) in enumerate(guests):
            for other, other_net in guests[index + 1 :]:
                if name != other and net.overlaps(other_net):
                    raise ValueError(f"guest subnets {net} ({name}) and {other_net} ({other}) overlap")
        return self
