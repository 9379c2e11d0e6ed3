"""Interfaces, addresses and routes of an appliance (guide: chapters 15.2 to 15.4, 15.27)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field, model_validator

from appliance.schema.problems import Problem, refuse, repeated
from appliance.schema.types import (
    Address,
    Frozen,
    Integer,
    InterfaceAddress,
    InterfaceName,
    IPv4Address,
    IPv4Network,
    MacAddress,
    Mtu,
    Network,
)

#: what rules know the interfaces of a role by, where many packets pass (ip-link(8), group); 0 is every other interface
GROUPS = {"guest": 1, "public": 2, "private-gateway": 3, "management": 4}


class Interface(Frozen):
    """One NIC, found by its MAC and given ``name``.

    ``addresses``: the first is the primary, further ones are secondary public addresses. A guest or tier
    interface has its gateway address here, or, on a shared network, the router's own address in each subnet.
    ``gateway`` is the next hop of a public or private-gateway interface, or the gateway of a shared network.
    """

    name: InterfaceName
    mac: MacAddress
    role: Literal["guest", "control", "public", "private-gateway", "management"]
    #: the control plane's UUID of the guest network (tier), public range or private gateway behind it
    network: str = ""
    mtu: Mtu | None = None
    addresses: tuple[InterfaceAddress, ...] = ()
    gateway: Address | None = None

    @property
    def subnets(self) -> tuple[IPv4Network, ...]:
        return tuple(dict.fromkeys(address.network for address in self.addresses))

    @model_validator(mode="after")
    def _check(self) -> Interface:
        if self.gateway is not None and self.gateway in [address.ip for address in self.addresses]:
            refuse([(("gateway",), "the gateway is an address of the interface itself; leave it out")])
        if self.gateway is not None and not any(self.gateway in net for net in self.subnets):
            refuse([(("gateway",), f"{self.gateway} is in none of the interface's subnets")])
        return self


class Route(Frozen):
    """A static route, e.g. through a VPC's private gateway."""

    destination: Network
    gateway: Address


class Redundancy(Frozen):
    """One of a pair of routers. Only the active one holds guest and public addresses; both hold control addresses."""

    state: Literal["active", "standby"]
    #: VRRP virtual router id (RFC 9568)
    group: Annotated[Integer, Field(ge=1, le=255)]
    priority: Annotated[Integer, Field(ge=1, le=254)]
    #: control address of the other router
    peer: Address


class Interfaces(Frozen):
    """All of an appliance's NICs. The first public interface with a gateway carries the default route.

    Without one, as on a shared network, it is the first guest interface with a gateway.
    """

    interfaces: tuple[Interface, ...]
    routes: tuple[Route, ...] = ()
    redundancy: Redundancy | None = None

    def of_role(self, role: str) -> tuple[Interface, ...]:
        return tuple(interface for interface in self.interfaces if interface.role == role)

    def public_addresses(self) -> tuple[IPv4Address, ...]:
        return tuple(address.ip for nic in self.of_role("public") for address in nic.addresses)

    @model_validator(mode="after")
    def _check(self) -> Interfaces:
        refuse(self._problems())
        return self

    def _problems(self) -> Iterator[Problem]:
        for index, name in repeated([nic.name for nic in self.interfaces]):
            yield ("interfaces", index, "name"), f"{name} is given to two interfaces"
        for index, mac in repeated([nic.mac for nic in self.interfaces]):
            yield ("interfaces", index, "mac"), f"{mac} is given to two interfaces"
        if (number := len(self.of_role("control"))) != 1:
            yield ("interfaces",), f"exactly one interface must have the role control, not {number}"
        places = [(i, j, address) for i, nic in enumerate(self.interfaces) for j, address in enumerate(nic.addresses)]
        for at, address in repeated([address.ip for _, _, address in places]):
            yield ("interfaces", places[at][0], "addresses", places[at][1]), f"{address} is given twice"
        guests = [place for place in places if self.interfaces[place[0]].role == "guest"]
        for at, (i, j, address) in enumerate(guests):
            for earlier, _, other in guests[:at]:
                if i != earlier and address.network.overlaps(other.network):
                    name = self.interfaces[earlier].name
                    text = f"guest subnet {address.network} overlaps {other.network} of {name}"
                    yield ("interfaces", i, "addresses", j), text
