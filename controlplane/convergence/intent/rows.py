"""What the tables say about one router, as immutable rows: the input of ``compile``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from controlplane.convergence.intent.vpn import Door, Tunnel

#: prefix length of the control network
CONTROL_PREFIX = 16


class ApplianceNic(NamedTuple):
    """One NIC of an appliance, as in ``Appliance.nics``."""

    name: str
    mac: str
    role: Literal["guest", "control", "public", "private-gateway"]
    segment: str
    network: str


class Subnet(NamedTuple):
    """Addresses of a network. ``router`` is the router's own, which on an isolated network is the gateway."""

    cidr: str
    gateway: str
    router: str


class GuestNetwork(NamedTuple):
    """A network (or tier) that the router serves. ``services`` are the offering's, e.g. ``Dhcp``."""

    id: str
    cidr: str
    gateway: str
    domain: str
    mtu: int | None
    egress_allow: bool
    services: frozenset[str]
    #: of many accounts, who are addressed directly: the gateway is another machine
    shared: bool
    subnets: tuple[Subnet, ...]
    #: Mbit/s, 0 for no limit
    rate: int = 0


class SecondaryAddress(NamedTuple):
    """A further address of a guest's NIC."""

    id: str
    nic_id: str
    network_id: str
    mac: str
    address: str


class PublicAddress(NamedTuple):
    """A public address of one of the networks. ``segment`` says which NIC it belongs on."""

    id: str
    network_id: str
    address: str
    source_nat: bool
    static_nat_nic_id: str | None
    segment: str
    netmask: str
    gateway: str
    #: secondary address of the NIC, None for its primary one
    static_nat_address: str | None = None


class Guest(NamedTuple):
    """A guest's NIC on one of the networks, with what its metadata tells."""

    nic_id: str
    network_id: str
    mac: str
    address: str
    default: bool
    vm_id: str
    name: str
    offering: str
    public_key: str | None
    user_data: str | None
    password_id: str | None
    #: sealed
    password: bytes | None
    #: of the account: name and id
    domain: str
    domain_id: str
    #: name of the hypervisor host; None before the guest was placed
    host: str | None


class Forward(NamedTuple):
    """A port-forwarding rule."""

    id: str
    public_ip_id: str
    nic_id: str
    protocol: str
    public_port: int
    public_end_port: int
    private_port: int
    private_end_port: int
    #: secondary address of the NIC, None for its primary one
    guest_address: str | None = None


class Filter(NamedTuple):
    """A firewall rule; ``public_ip_id`` is None for egress. CIDR lists are JSON text."""

    id: str
    network_id: str
    public_ip_id: str | None
    protocol: str
    start_port: int | None
    end_port: int | None
    icmp_type: int | None
    icmp_code: int | None
    sources: str
    destinations: str


@dataclass(frozen=True)
class Balancer:
    """A load balancer rule with what belongs to it."""

    id: str
    network_id: str
    public_ip_id: str
    algorithm: str
    protocol: str
    public_port: int
    private_port: int
    sources: tuple[str, ...]
    #: ids of NICs, with a secondary address or None for the primary one
    members: tuple[tuple[str, str | None], ...]
    #: method and parameters as they were given
    stickiness: tuple[str, dict[str, str]] | None
    #: fields of the router's HealthCheck
    health: dict[str, Any]
    #: ids, the oldest first
    certificates: tuple[str, ...]


@dataclass(frozen=True)
class Intent:
    """Everything one router's document is made of, at one generation."""

    appliance_id: str
    generation: int
    name: str
    control_address: str
    nics: tuple[ApplianceNic, ...]
    zone: str
    resolvers: tuple[str, ...]
    #: the installation's UUID, told to guests as their cloud's identity
    cloud: str
    networks: tuple[GuestNetwork, ...] = ()
    addresses: tuple[PublicAddress, ...] = ()
    guests: tuple[Guest, ...] = ()
    secondary: tuple[SecondaryAddress, ...] = ()
    forwards: tuple[Forward, ...] = ()
    filters: tuple[Filter, ...] = ()
    #: passwords waiting to be fetched, opened: Guest.password_id -> text
    passwords: tuple[tuple[str, str], ...] = ()

    balancers: tuple[Balancer, ...] = ()
    tunnels: tuple[Tunnel, ...] = ()
    doors: tuple[Door, ...] = ()
    #: certificates in use: id -> PEM with chain and private key
    certificates: tuple[tuple[str, str], ...] = ()

    @property
    def segments(self) -> frozenset[str]:
        """Segments of the public addresses."""
        return frozenset(address.segment for address in self.addresses)

    def __repr__(self) -> str:
        # the default would print passwords and keys
        return f"Intent({self.appliance_id}, generation {self.generation})"


def public_segment(physical_network_id: str, vlan: str) -> str:
    """The layer-2 segment of a public range: all ranges of a physical network with one VLAN share it."""
    return _segment("public", physical_network_id, vlan)


def storage_segment(physical_network_id: str, vlan: str) -> str:
    """The layer-2 segment of a storage network: all its ranges on a physical network with one VLAN share it."""
    return _segment("storage", physical_network_id, vlan)


def _segment(kind: str, physical_network_id: str, vlan: str) -> str:
    return f"{kind}-{physical_network_id}-{vlan.removeprefix('vlan://') or 'untagged'}"
