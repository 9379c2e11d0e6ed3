"""DHCP and DNS for the guests (guide: chapters 15.2, 15.24; RFC 2131, 2132, 3397, 3442)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from pydantic import Field, model_validator

from appliance.schema.problems import Problem, refuse, repeated
from appliance.schema.types import (
    Address,
    Domain,
    Flag,
    Frozen,
    Hostname,
    Integer,
    InterfaceName,
    IPv4Address,
    MacAddress,
    Mtu,
    Network,
    RuleId,
)


class DhcpRoute(Frozen):
    """A static route pushed to guests (option 121); ``default_only``: on their default NIC alone."""

    destination: Network
    gateway: Address
    default_only: Flag = False


class DhcpNetwork(Frozen):
    """A subnet that DHCP and DNS are served on; a shared network may have several on one interface."""

    interface: InterfaceName
    subnet: Network
    #: option 3
    gateway: Address
    #: the router's address in this subnet (option 6), where it is not the gateway itself
    server: Address | None = None
    domain: Domain
    #: option 119
    search: tuple[Domain, ...] = ()
    #: option 26
    mtu: Mtu | None = None
    #: option 121
    routes: tuple[DhcpRoute, ...] = ()
    #: seconds
    lease: Annotated[Integer, Field(ge=120)] = 86400

    @property
    def router(self) -> IPv4Address:
        """The router's own address in the subnet."""
        return self.gateway if self.server is None else self.server


class DhcpHost(Frozen):
    """One guest NIC: it alone gets ``address``, and ``name`` resolves to it."""

    id: RuleId
    interface: InterfaceName
    mac: MacAddress
    address: Address
    name: Hostname
    #: the guest's default NIC; on another one options 3, 6 and 15 are left out
    default: Flag = True


class DnsRecord(Frozen):
    """A further name on the guest networks."""

    name: Domain
    address: Address


class Dhcp(Frozen):
    """dnsmasq's whole task."""

    networks: tuple[DhcpNetwork, ...]
    hosts: tuple[DhcpHost, ...] = ()
    records: tuple[DnsRecord, ...] = ()
    #: the zone's resolvers, asked for every name that is not ours
    resolvers: tuple[Address, ...] = ()
    #: also hand the resolvers to the guests (option 6, after the router)
    expose_resolvers: Flag = False

    @model_validator(mode="after")
    def _check(self) -> Dhcp:
        refuse(self._problems())
        return self

    def _problems(self) -> Iterator[Problem]:
        yield from self._network_problems()
        for index, identity in repeated([host.id for host in self.hosts]):
            yield ("hosts", index, "id"), f"{identity} is given to two guests"
        for index, (_, mac) in repeated([(host.interface, host.mac) for host in self.hosts]):
            yield ("hosts", index, "mac"), f"{mac} is given to two guests"
        for index, (_, name) in repeated([(host.interface, host.name.lower()) for host in self.hosts]):
            yield ("hosts", index, "name"), f"{name} is given to two guests"
        # integers: 1,000 guests, and hashing and comparing IPv4Address is slow
        for index, number in repeated([int(host.address) for host in self.hosts]):
            yield ("hosts", index, "address"), f"{IPv4Address(number)} is given to two guests"
        yield from self._place_problems()

    def _network_problems(self) -> Iterator[Problem]:
        for index, (interface, subnet) in repeated([(one.interface, one.subnet) for one in self.networks]):
            yield ("networks", index, "subnet"), f"{interface} has a DHCP network for {subnet} already"
        for index, network in enumerate(self.networks):
            if network.gateway not in network.subnet:
                yield ("networks", index, "gateway"), f"{network.gateway} is not in {network.subnet}"
            if network.server is not None and network.server not in network.subnet:
                yield ("networks", index, "server"), f"{network.server} is not in {network.subnet}"
            first = next(one for one in self.networks if one.interface == network.interface)
            if network.domain != first.domain:
                yield ("networks", index, "domain"), f"{network.interface} has the domain {first.domain} already"

    def _place_problems(self) -> Iterator[Problem]:
        """Every guest must be in a subnet of its interface, and be nobody of the router's."""
        bounds: dict[str, list[tuple[int, int, tuple[int, int]]]] = {}
        for network in self.networks:
            low, high = int(network.subnet.network_address), int(network.subnet.broadcast_address)
            bounds.setdefault(network.interface, []).append((low, high, (int(network.gateway), int(network.router))))
        for index, host in enumerate(self.hosts):
            if host.interface not in bounds:
                yield ("hosts", index, "interface"), f"{host.interface} has no DHCP network"
                continue
            number = int(host.address)
            own = next((own for low, high, own in bounds[host.interface] if low < number < high), None)
            if own is None:
                yield ("hosts", index, "address"), f"{host.address} is no guest address of {host.interface}'s subnet"
            elif number in own:
                yield ("hosts", index, "address"), f"{host.address} is the router's own"
