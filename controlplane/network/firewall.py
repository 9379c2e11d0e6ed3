"""Ingress and egress firewall rules of isolated networks (guide: chapters 15.14.1, 15.14.2)."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Network

from sqlalchemy import ColumnElement, delete, select
from sqlalchemy.orm import Session

from controlplane.errors import ParameterError, RuleConflictError
from controlplane.network import addresses, addressing, services
from controlplane.network.ports import Traffic, overlaps
from controlplane.store.models import FirewallRule, Network, PortForwardingRule, PublicIp

INGRESS_PROTOCOLS = ("tcp", "udp", "icmp")
EGRESS_PROTOCOLS = ("tcp", "udp", "icmp", "all")


def create_ingress(session: Session, address: PublicIp, traffic: Traffic, sources: list[str]) -> FirewallRule:
    """A rule that opens a public address, in state Add. No ``sources``: from everywhere.

    Raises RuleConflictError when a rule matches one of the same ports for one of the same sources.
    """
    network = addresses.need_network(address)
    services.need(network, "Firewall")
    session.refresh(address, with_for_update=True)
    cidrs = sources or [str(addressing.ALL)]
    _check_conflict(session, FirewallRule.public_ip_id == address.id, traffic, cidrs, [])
    return _add(session, network, traffic, sources=cidrs, address=address)


def create_egress(
    session: Session, network: Network, traffic: Traffic, sources: list[str], destinations: list[str]
) -> FirewallRule:
    """An exception to what guests may do by default, in state Add.

    No ``sources``: the whole network; no ``destinations``: everywhere. Raises ParameterError when a source is not
    within the network (0.0.0.0/0 stands for all of it), RuleConflictError as for ingress.
    """
    services.need(network, "Firewall")
    if network.removed is not None or network.state == "Destroy":
        raise ParameterError(f"network {network.name} is being deleted")
    subnet = IPv4Network(network.cidr)
    for cidr in sources:
        source = IPv4Network(cidr)
        if source != addressing.ALL and not source.subnet_of(subnet):
            raise ParameterError(f"cidrlist: {cidr} is not within the guest network {network.cidr}")
    session.refresh(network, with_for_update=True)
    cidrs = sources or [network.cidr]
    same = (FirewallRule.network_id == network.id) & (FirewallRule.traffic_type == "Egress")
    _check_conflict(session, same, traffic, cidrs, destinations)
    return _add(session, network, traffic, sources=cidrs, destinations=destinations)


def open_ports(
    session: Session, address: PublicIp, traffic: Traffic, sources: list[str], forward: PortForwardingRule | None = None
) -> FirewallRule | None:
    """The ingress rule that goes with a port forwarding or load balancer rule; None when its ports are open already."""
    network = addresses.need_network(address)
    assert traffic.ports is not None
    cidrs = sources or [str(addressing.ALL)]
    same = _overlapping(FirewallRule.public_ip_id == address.id, traffic)
    for rule in session.execute(select(FirewallRule).where(same)).scalars():
        if (rule.start_port, rule.end_port) == (traffic.ports.first, traffic.ports.last) and set(cidrs) <= set(
            rule.source_cidrs
        ):
            return None
    return _add(session, network, traffic, sources=cidrs, address=address, forward=forward)


def _overlapping(scope: ColumnElement[bool], traffic: Traffic) -> ColumnElement[bool]:
    """SQL: rules in force within ``scope`` that stand in the way of a new one, addresses aside."""
    same = scope & (FirewallRule.protocol == traffic.protocol) & (FirewallRule.state != "Revoke")
    if traffic.protocol == "icmp":
        # as in the established system, "any" and one type stand side by side; only the same twice is a conflict
        kind = FirewallRule.icmp_type.is_not_distinct_from(traffic.icmp_type)
        return same & kind & FirewallRule.icmp_code.is_not_distinct_from(traffic.icmp_code)
    return same & overlaps(FirewallRule.start_port, FirewallRule.end_port, traffic.ports)


def _check_conflict(
    session: Session, scope: ColumnElement[bool], traffic: Traffic, sources: list[str], destinations: list[str]
) -> None:
    candidates = select(
        FirewallRule.id,
        FirewallRule.start_port,
        FirewallRule.end_port,
        FirewallRule.source_cidrs,
        FirewallRule.destination_cidrs,
    ).where(_overlapping(scope, traffic))
    everywhere = {str(addressing.ALL)}
    for rule in session.execute(candidates):
        if not set(rule.source_cidrs) & set(sources):
            continue
        if not (set(rule.destination_cidrs) or everywhere) & (set(destinations) or everywhere):
            continue
        asked = f" {traffic.ports}" if traffic.ports else ""
        has = "all" if rule.start_port is None else f"{rule.start_port}-{rule.end_port}"
        raise RuleConflictError(
            f"The range specified, {traffic.protocol}{asked}, conflicts with firewall rule {rule.id} which has {has}"
        )


def _add(
    session: Session,
    network: Network,
    traffic: Traffic,
    *,
    sources: list[str],
    destinations: list[str] | None = None,
    address: PublicIp | None = None,
    forward: PortForwardingRule | None = None,
) -> FirewallRule:
    rule = FirewallRule(
        network_id=network.id,
        public_ip_id=address.id if address else None,
        traffic_type="Ingress" if address else "Egress",
        protocol=traffic.protocol,
        start_port=traffic.ports.first if traffic.ports else None,
        end_port=traffic.ports.last if traffic.ports else None,
        icmp_type=traffic.icmp_type,
        icmp_code=traffic.icmp_code,
        source_cidrs=sources,
        destination_cidrs=destinations or [],
        port_forwarding_rule_id=forward.id if forward else None,
    )
    session.add(rule)
    session.flush()
    return rule


def revoke(session: Session, rules: Iterable[FirewallRule]) -> None:
    """Take rules out of the desired state; ``remove`` ends it."""
    for rule in rules:
        rule.state = "Revoke"
    session.flush()


def remove(session: Session, rule_id: str) -> None:
    """Delete the row of a revoked rule. Doing so twice does nothing."""
    session.execute(delete(FirewallRule).where(FirewallRule.id == rule_id, FirewallRule.state == "Revoke"))


def activate(session: Session, rule_id: str) -> FirewallRule | None:
    """Mark a rule as in force; None when it is gone or going."""
    rule = session.get(FirewallRule, rule_id)
    if rule is None or rule.state == "Revoke":
        return None
    rule.state = "Active"
    session.flush()
    return rule
