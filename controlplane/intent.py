"""What the tables say about one router, as immutable rows: the input of ``compile``.

Core column selects, not ORM objects: a router with 10,000 forwards and as many firewall rules is loaded on each change.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeVar

from sqlalchemy import Select, Text, cast, select
from sqlalchemy.orm import Session

from controlplane.secrets import Secrets
from controlplane.store.models import (
    Account,
    Appliance,
    Domain,
    FirewallRule,
    Host,
    LoadBalancer,
    LoadBalancerCertificate,
    LoadBalancerMember,
    LoadBalancerPolicy,
    Network,
    NetworkOffering,
    Nic,
    PortForwardingRule,
    PublicIp,
    ServiceOffering,
    SslCertificate,
    VlanIpRange,
    Vm,
    Zone,
)

Row = TypeVar("Row", bound=NamedTuple)

#: rules on their way out are no longer part of the desired state
REVOKED = "Revoke"
RELEASING = "Releasing"

#: prefix length of the control network
CONTROL_PREFIX = 16


class RouterNic(NamedTuple):
    """One NIC of the router, as in ``Appliance.nics``."""

    name: str
    mac: str
    role: Literal["guest", "control", "public", "private-gateway"]
    segment: str
    network: str


class GuestNetwork(NamedTuple):
    """A network (or tier) that the router serves. ``services`` are the offering's, e.g. ``Dhcp``."""

    id: str
    cidr: str
    gateway: str
    domain: str
    mtu: int | None
    egress_allow: bool
    services: frozenset[str]


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
    #: ids of NICs
    members: tuple[str, ...]
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
    nics: tuple[RouterNic, ...]
    zone: str
    resolvers: tuple[str, ...]
    #: the installation's UUID, told to guests as their cloud's identity
    cloud: str
    networks: tuple[GuestNetwork, ...] = ()
    addresses: tuple[PublicAddress, ...] = ()
    guests: tuple[Guest, ...] = ()
    forwards: tuple[Forward, ...] = ()
    filters: tuple[Filter, ...] = ()
    #: passwords waiting to be fetched, opened: Guest.password_id -> text
    passwords: tuple[tuple[str, str], ...] = ()

    balancers: tuple[Balancer, ...] = ()
    #: certificates in use: id -> PEM with chain and private key
    certificates: tuple[tuple[str, str], ...] = ()

    def __repr__(self) -> str:
        # the default would print passwords and keys
        return f"Intent({self.appliance_id}, generation {self.generation})"


def public_segment(physical_network_id: str, vlan: str) -> str:
    """The layer-2 segment of a public range: all ranges of a physical network with one VLAN share it."""
    return f"public-{physical_network_id}-{vlan.removeprefix('vlan://') or 'untagged'}"


def _rows(session: Session, kind: type[Row], statement: Select[*tuple[Any, ...]]) -> tuple[Row, ...]:
    make: Any = kind
    # of the connection, because the session would make its own rows first, which doubles the time
    return tuple(map(make._make, session.connection().execute(statement).all()))


def load(session: Session, appliance_id: str, secrets: Secrets, cloud: str) -> Intent:
    """The intent of one router from one snapshot of the tables. Raises NoResultFound for an unknown appliance."""
    router = session.execute(
        select(
            Appliance.name,
            Appliance.control_address,
            Appliance.nics,
            Appliance.desired_generation,
            Zone.name.label("zone"),
            Zone.dns1,
            Zone.dns2,
        )
        .join(Zone, Zone.id == Appliance.zone_id)
        .where(Appliance.id == appliance_id)
    ).one()
    nics = tuple(RouterNic(**nic) for nic in router.nics)
    served = [nic.network for nic in nics if nic.role == "guest"]
    guests = _guests(session, served)
    balancers = _balancers(session, served)
    return Intent(
        appliance_id=appliance_id,
        generation=router.desired_generation,
        name=router.name,
        control_address=router.control_address,
        nics=nics,
        zone=router.zone,
        resolvers=tuple(filter(None, (router.dns1, router.dns2))),
        cloud=cloud,
        networks=_networks(session, served),
        addresses=_addresses(session, served),
        guests=guests,
        forwards=_forwards(session, served),
        filters=_filters(session, served),
        balancers=balancers,
        certificates=_certificates(session, balancers, secrets),
        passwords=tuple(
            (guest.password_id, secrets.open(guest.password))
            for guest in guests
            if guest.default and guest.password_id and guest.password
        ),
    )


def _networks(session: Session, served: list[str]) -> tuple[GuestNetwork, ...]:
    statement = (
        select(
            Network.id,
            Network.cidr,
            Network.gateway,
            Network.network_domain,
            Network.mtu,
            NetworkOffering.egress_default_allow,
            NetworkOffering.services,
        )
        .join(NetworkOffering, NetworkOffering.id == Network.network_offering_id)
        .where(Network.id.in_(served))
    )
    found = {
        row.id: GuestNetwork(
            id=row.id,
            cidr=row.cidr,
            gateway=row.gateway,
            domain=row.network_domain,
            mtu=row.mtu,
            egress_allow=row.egress_default_allow,
            services=frozenset(row.services),
        )
        for row in session.execute(statement)
    }
    return tuple(found[network] for network in served if network in found)


def _addresses(session: Session, served: list[str]) -> tuple[PublicAddress, ...]:
    statement = (
        select(
            PublicIp.id,
            PublicIp.network_id,
            PublicIp.address,
            PublicIp.is_source_nat,
            PublicIp.static_nat_nic_id,
            VlanIpRange.physical_network_id,
            VlanIpRange.vlan,
            VlanIpRange.netmask,
            VlanIpRange.gateway,
        )
        .join(VlanIpRange, VlanIpRange.id == PublicIp.vlan_ip_range_id)
        .where(PublicIp.network_id.in_(served), PublicIp.state != RELEASING)
    )
    return tuple(
        PublicAddress(
            row.id,
            row.network_id or "",
            row.address,
            row.is_source_nat,
            row.static_nat_nic_id,
            public_segment(row.physical_network_id, row.vlan),
            row.netmask,
            row.gateway,
        )
        for row in session.execute(statement)
    )


def _guests(session: Session, served: list[str]) -> tuple[Guest, ...]:
    statement = (
        select(
            Nic.id,
            Nic.network_id,
            Nic.mac,
            Nic.address,
            Nic.is_default,
            Vm.id,
            Vm.name,
            ServiceOffering.name,
            Vm.public_key,
            Vm.user_data,
            Vm.password_id,
            Vm.password,
            Domain.name,
            Domain.id,
            Host.name,
        )
        .join(Vm, Vm.id == Nic.vm_id)
        .join(Account, Account.id == Vm.account_id)
        .join(Domain, Domain.id == Account.domain_id)
        .outerjoin(Host, Host.id == Vm.host_id)
        .join(ServiceOffering, ServiceOffering.id == Vm.service_offering_id)
        .where(Nic.network_id.in_(served), Vm.removed.is_(None))
    )
    return _rows(session, Guest, statement)


def _forwards(session: Session, served: list[str]) -> tuple[Forward, ...]:
    statement = select(
        PortForwardingRule.id,
        PortForwardingRule.public_ip_id,
        PortForwardingRule.nic_id,
        PortForwardingRule.protocol,
        PortForwardingRule.public_port,
        PortForwardingRule.public_end_port,
        PortForwardingRule.private_port,
        PortForwardingRule.private_end_port,
    ).where(PortForwardingRule.network_id.in_(served), PortForwardingRule.state != REVOKED)
    return _rows(session, Forward, statement)


def _filters(session: Session, served: list[str]) -> tuple[Filter, ...]:
    statement = select(
        FirewallRule.id,
        FirewallRule.network_id,
        FirewallRule.public_ip_id,
        FirewallRule.protocol,
        FirewallRule.start_port,
        FirewallRule.end_port,
        FirewallRule.icmp_type,
        FirewallRule.icmp_code,
        # as text: decoding the JSON of rules that did not change would cost more than loading them
        cast(FirewallRule.source_cidrs, Text),
        cast(FirewallRule.destination_cidrs, Text),
    ).where(FirewallRule.network_id.in_(served), FirewallRule.state != REVOKED)
    return _rows(session, Filter, statement)


def _balancers(session: Session, served: list[str]) -> tuple[Balancer, ...]:
    rules = session.scalars(
        select(LoadBalancer).where(LoadBalancer.network_id.in_(served), LoadBalancer.state != REVOKED)
    ).all()
    if not rules:
        return ()
    here = select(LoadBalancer.id).where(LoadBalancer.network_id.in_(served))
    members: dict[str, list[str]] = {}
    for member in session.execute(
        select(LoadBalancerMember.rule_id, LoadBalancerMember.nic_id).where(
            LoadBalancerMember.rule_id.in_(here), LoadBalancerMember.state != REVOKED
        )
    ):
        members.setdefault(member.rule_id, []).append(member.nic_id)
    policies = {
        (policy.rule_id, policy.kind): policy
        for policy in session.scalars(
            select(LoadBalancerPolicy).where(LoadBalancerPolicy.rule_id.in_(here), LoadBalancerPolicy.state != REVOKED)
        )
    }
    certificates: dict[str, list[str]] = {}
    for use in session.scalars(
        select(LoadBalancerCertificate)
        .where(LoadBalancerCertificate.rule_id.in_(here), LoadBalancerCertificate.state != REVOKED)
        .order_by(LoadBalancerCertificate.created, LoadBalancerCertificate.id)
    ):
        certificates.setdefault(use.rule_id, []).append(use.certificate_id)
    found = []
    for rule in rules:
        sticky, health = policies.get((rule.id, "Stickiness")), policies.get((rule.id, "HealthCheck"))
        found.append(
            Balancer(
                id=rule.id,
                network_id=rule.network_id,
                public_ip_id=rule.public_ip_id,
                algorithm=rule.algorithm,
                protocol=rule.protocol,
                public_port=rule.public_port,
                private_port=rule.private_port,
                sources=tuple(rule.source_cidrs),
                members=tuple(members.get(rule.id, ())),
                stickiness=(sticky.method or "", sticky.params) if sticky is not None else None,
                health=health.params if health is not None else {},
                certificates=tuple(certificates.get(rule.id, ())),
            )
        )
    return tuple(found)


def _certificates(session: Session, balancers: tuple[Balancer, ...], secrets: Secrets) -> tuple[tuple[str, str], ...]:
    used = {id for balancer in balancers if balancer.protocol == "ssl" for id in balancer.certificates}
    rows = session.scalars(select(SslCertificate).where(SslCertificate.id.in_(used))).all() if used else ()
    return tuple((row.id, "".join((row.certificate, row.chain or "", secrets.open(row.private_key)))) for row in rows)
