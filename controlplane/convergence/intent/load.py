"""Reads a router's intent from the tables.

Core column selects, not ORM objects: a router with 10,000 forwards and as many firewall rules is loaded on each change.
"""

from __future__ import annotations

from ipaddress import IPv4Network
from typing import Any, NamedTuple, TypeVar

from sqlalchemy import Select, Text, cast, select
from sqlalchemy.orm import Session

from controlplane.configuration import Configuration
from controlplane.convergence.intent import vpn
from controlplane.convergence.intent.rows import (
    ApplianceNic,
    Balancer,
    Filter,
    Forward,
    Guest,
    GuestNetwork,
    Intent,
    PublicAddress,
    SecondaryAddress,
    Subnet,
    public_segment,
)
from controlplane.network import rates
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
    NicSecondaryIp,
    PortForwardingRule,
    PublicIp,
    RouterAddress,
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


def _rows(session: Session, kind: type[Row], statement: Select[*tuple[Any, ...]]) -> tuple[Row, ...]:
    make: Any = kind
    # of the connection, because the session would make its own rows first, which doubles the time
    return tuple(map(make._make, session.connection().execute(statement).all()))


def load(session: Session, appliance_id: str, secrets: Secrets, cloud: str, configuration: Configuration) -> Intent:
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
    nics = tuple(ApplianceNic(**nic) for nic in router.nics)
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
        networks=_networks(session, served, configuration),
        addresses=_addresses(session, served),
        guests=guests,
        secondary=_secondary(session, served),
        forwards=_forwards(session, served),
        filters=_filters(session, served),
        balancers=balancers,
        tunnels=vpn.load(session, served, secrets),
        doors=vpn.load_doors(session, served, secrets),
        certificates=_certificates(session, balancers, secrets),
        passwords=tuple(
            (guest.password_id, secrets.open(guest.password))
            for guest in guests
            if guest.default and guest.password_id and guest.password
        ),
    )


def _networks(session: Session, served: list[str], configuration: Configuration) -> tuple[GuestNetwork, ...]:
    statement = (
        select(
            Network.id,
            Network.cidr,
            Network.gateway,
            Network.network_domain,
            Network.mtu,
            NetworkOffering.egress_default_allow,
            NetworkOffering.services,
            NetworkOffering.network_rate,
            Network.zone_id,
            NetworkOffering.guest_ip_type,
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
            rate=rates.of_network(session, configuration, row.network_rate, row.zone_id),
            shared=(shared := row.guest_ip_type == "Shared"),
            subnets=_subnets(session, row.id) if shared else (Subnet(row.cidr, row.gateway, row.gateway),),
        )
        for row in session.execute(statement)
    }
    return tuple(found[network] for network in served if network in found)


def _subnets(session: Session, network_id: str) -> tuple[Subnet, ...]:
    """Of a shared network, those that the router has an address in, the oldest range's first."""
    statement = (
        select(RouterAddress.address, VlanIpRange.gateway, VlanIpRange.netmask)
        .join(VlanIpRange, VlanIpRange.id == RouterAddress.vlan_ip_range_id)
        .where(RouterAddress.network_id == network_id)
        .order_by(VlanIpRange.created, VlanIpRange.id)
    )
    return tuple(
        Subnet(str(IPv4Network((row.gateway, row.netmask), strict=False)), row.gateway, row.address)
        for row in session.execute(statement)
    )


def _secondary(session: Session, served: list[str]) -> tuple[SecondaryAddress, ...]:
    statement = (
        select(NicSecondaryIp.id, Nic.id, Nic.network_id, Nic.mac, NicSecondaryIp.address)
        .join(Nic, Nic.id == NicSecondaryIp.nic_id)
        .where(Nic.network_id.in_(served))
    )
    return _rows(session, SecondaryAddress, statement)


def _addresses(session: Session, served: list[str]) -> tuple[PublicAddress, ...]:
    statement = (
        select(
            PublicIp.id,
            PublicIp.network_id,
            PublicIp.address,
            PublicIp.is_source_nat,
            PublicIp.static_nat_nic_id,
            PublicIp.static_nat_address,
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
            row.static_nat_address,
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
        PortForwardingRule.guest_address,
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
    members: dict[str, list[tuple[str, str | None]]] = {}
    for member in session.execute(
        select(LoadBalancerMember.rule_id, LoadBalancerMember.nic_id, LoadBalancerMember.address).where(
            LoadBalancerMember.rule_id.in_(here), LoadBalancerMember.state != REVOKED
        )
    ):
        members.setdefault(member.rule_id, []).append((member.nic_id, member.address))
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
