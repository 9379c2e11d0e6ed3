"""DHCP and DNS for the guests (guide: chapters 15.2, 15.24; RFC 2131, 2132, 3397, 3442)."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from appliance.schema.types import (
    Address,
    Domain,
    Frozen,
    Hostname,
    InterfaceName,
    IPv4Network,
    MacAddress,
    RuleId,
    find_duplicates,
    memoised,
)


class DhcpRoute(Frozen):
    """A static route pushed to guests (option 121)."""

    destination: IPv4Network
    gateway: Address


class DhcpNetwork(Frozen):
    """One guest interface that DHCP and DNS are served on."""

    interface: InterfaceName
    subnet: IPv4Network
    #: option 3; the router's address on this network
    gateway: Address
    domain: Domain
    #: option 119
    search: tuple[Domain, ...] = ()
    #: option 26
    mtu: Annotated[int, Field(ge=576, le=65535)] | None = None
    #: option 121
    routes: tuple[DhcpRoute, ...] = ()
    #: seconds
    lease: Annotated[int, Field(ge=120)] = 86400


class DhcpHost(Frozen):
    """One guest NIC: it alone gets ``address``, and ``name`` resolves to it."""

    id: RuleId
    interface: InterfaceName
    mac: MacAddress
    address: Address
    name: Hostname
    #: the guest's default NIC; on another one options 3, 6 and 15 are left out
    default: bool = True


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
    expose_resolvers: bool = False

    @model_validator(mode="after")
    def _check(self) -> Dhcp:
        subnets = {network.interface: network.subnet for network in self.networks}
        if len(subnets) != len(self.networks):
            raise ValueError("networks: an interface is listed twice")
        for what, values in (
            ("id", [host.id for host in self.hosts]),
            ("address", [host.address for host in self.hosts]),
            ("mac", [(host.interface, host.mac) for host in self.hosts]),
            ("name", [(host.interface, host.name.lower()) for host in self.hosts]),
        ):
            if twice := find_duplicates(values):
                raise ValueError(f"hosts: {what} {twice[0]} is given to two guests")
        bounds = {name: (int(net.network_address), int(net.broadcast_address)) for name, net in subnets.items()}
        for host in self.hosts:
            if host.interface not in bounds:
                raise ValueError(f"hosts: {host.name}: no DHCP network on interface {host.interface}")
            low, high = bounds[host.interface]
            if not low < int(host.address) < high:
                raise ValueError(f"hosts: {host.name}: {host.address} is not in {subnets[host.interface]}")
        return self
