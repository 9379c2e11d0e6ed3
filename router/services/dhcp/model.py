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
    memoised,
)


class DhcpRoute(Frozen):
    """A static route pushed to guests (option 121)."""

    destination: Network
    gateway: Address


class DhcpNetwork(Frozen):
    """One guest interface that DHCP and DNS are served on."""

    interface: InterfaceName
    subnet: Network
    #: option 3; the router's address on this network
    gateway: Address
    domain: Domain
    #: option 119
    search: tuple[Domain, ...] = ()
    #: option 26
    mtu: Mtu | None = None
    #: option 121
    routes: tuple[DhcpRoute, ...] = ()
    #: seconds
    lease: Annotated[Integer, Field(ge=120)] = 86400


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
    hosts: Annotated[tuple[DhcpHost, ...], memoised("dhcp.hosts")] = ()
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
        for index, interface in repeated([network.interface for network in self.networks]):
            yield ("networks", index, "interface"), f"{interface} has a DHCP network already"
        for index, network in enumerate(self.networks):
            if network.gateway not in network.subnet:
                yield ("networks", index, "gateway"), f"{network.gateway} is not in {network.subnet}"
        for index, identity in repeated([host.id for host in self.hosts]):
            yield ("hosts", index, "id"), f"{identity} is given to two guests"
        for index, (_, mac) in repeated([(host.interface, host.mac) for host in self.hosts]):
            yield ("hosts", index, "mac"), f"{mac} is given to two guests"
        for index, (_, name) in repeated([(host.interface, host.name.lower()) for host in self.hosts]):
            yield ("hosts", index, "name"), f"{name} is given to two guests"
        # integers: 1,000 guests, and hashing and comparing IPv4Address is slow
        for index, number in repeated([int(host.address) for host in self.hosts]):
            yield ("hosts", index, "address"), f"{IPv4Address(number)} is given to two guests"
        bounds = {
            network.interface: (
                int(network.subnet.network_address),
                int(network.subnet.broadcast_address),
                int(network.gateway),
            )
            for network in self.networks
        }
        for index, host in enumerate(self.hosts):
            if host.interface not in bounds:
                yield ("hosts", index, "interface"), f"{host.interface} has no DHCP network"
                continue
            low, high, gateway = bounds[host.interface]
            if not low < (number := int(host.address)) < high:
                yield ("hosts", index, "address"), f"{host.address} is no guest address of {host.interface}'s subnet"
            elif number == gateway:
                yield ("hosts", index, "address"), f"{host.address} is the router's own"
