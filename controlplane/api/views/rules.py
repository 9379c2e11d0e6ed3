"""Firewall and port forwarding rules as the API shows them; note which numbers are texts."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session, joinedload

from controlplane.api.command import Response, shown
from controlplane.api.tagging import TagResponse, tags_of
from controlplane.network import addressing
from controlplane.store.models import FirewallRule, Nic, PortForwardingRule, PublicIp

#: ICMP type and code that match any, as the API writes it
_ANY_ICMP = -1


class FirewallResponse(Response):
    """An ingress or egress firewall rule."""

    id: str = shown("the ID of the firewall rule", ...)
    protocol: str = shown("the protocol of the firewall rule", ...)
    startport: int | None = shown("the starting port of firewall rule's port range")
    endport: int | None = shown("the ending port of firewall rule's port range")
    icmptype: int | None = shown("type of the icmp message being sent")
    icmpcode: int | None = shown("error code for this icmp message")
    ipaddressid: str | None = shown("the public ip address id for the firewall rule")
    ipaddress: str | None = shown("the public ip address for the firewall rule")
    networkid: str = shown("the network id of the firewall rule", ...)
    cidrlist: str = shown("the cidr list to forward traffic from. Multiple entries are separated by a single comma", "")
    destcidrlist: str | None = shown("the destination cidr list. Multiple entries are separated by a single comma")
    state: str = shown("the state of the rule", ...)
    fordisplay: bool = shown("is rule for display to the regular user", True)
    tags: list[TagResponse] = shown("the list of resource tags associated with the rule", [])


class PortForwardingRuleResponse(Response):
    """A port forwarding rule. Its ports are texts."""

    id: str = shown("the ID of the port forwarding rule", ...)
    protocol: str = shown("the protocol of the port forwarding rule", ...)
    publicport: str = shown("the starting port of port forwarding rule's public port range", ...)
    publicendport: str = shown("the ending port of port forwarding rule's public port range", ...)
    privateport: str = shown("the starting port of port forwarding rule's private port range", ...)
    privateendport: str = shown("the ending port of port forwarding rule's private port range", ...)
    ipaddressid: str = shown("the public ip address id for the port forwarding rule", ...)
    ipaddress: str = shown("the public ip address for the port forwarding rule", ...)
    networkid: str = shown("the id of the guest network the port forwarding rule belongs to", ...)
    virtualmachineid: str = shown("the VM ID for the port forwarding rule", ...)
    virtualmachinename: str = shown("the VM name for the port forwarding rule", ...)
    virtualmachinedisplayname: str = shown("the VM display name for the port forwarding rule", ...)
    vmguestip: str = shown("the vm ip address for the port forwarding rule", ...)
    cidrlist: str = shown("the cidr list to forward traffic from. Multiple entries are separated by a single comma", "")
    state: str = shown("the state of the rule", ...)
    fordisplay: bool = shown("is firewall for display to the regular user", True)
    tags: list[TagResponse] = shown("the list of resource tags associated with the rule", [])


def _cidr_text(cidrs: Sequence[str]) -> str:
    return ",".join(cidrs)


def show_firewall_rules(session: Session, rules: Sequence[FirewallRule]) -> list[FirewallResponse]:
    """Ingress and egress rules."""
    addresses = _addresses(session, [rule.public_ip_id for rule in rules if rule.public_ip_id])
    tags = tags_of(session, "FirewallRule", [rule.id for rule in rules])
    answers = []
    for rule in rules:
        icmp = rule.protocol == "icmp"
        answers.append(
            FirewallResponse(
                id=rule.id,
                protocol=rule.protocol,
                startport=rule.start_port,
                endport=rule.end_port,
                icmptype=(_ANY_ICMP if rule.icmp_type is None else rule.icmp_type) if icmp else None,
                icmpcode=(_ANY_ICMP if rule.icmp_code is None else rule.icmp_code) if icmp else None,
                ipaddressid=rule.public_ip_id,
                ipaddress=addresses.get(rule.public_ip_id or ""),
                networkid=rule.network_id,
                cidrlist=_cidr_text(rule.source_cidrs),
                destcidrlist=_cidr_text(rule.destination_cidrs or [str(addressing.ALL)])
                if rule.traffic_type == "Egress"
                else None,
                state=rule.state,
                tags=tags.get(rule.id, []),
            )
        )
    return answers


def show_forwards(session: Session, rules: Sequence[PortForwardingRule]) -> list[PortForwardingRuleResponse]:
    """Port forwarding rules."""
    addresses = _addresses(session, [rule.public_ip_id for rule in rules])
    wanted = {rule.nic_id for rule in rules}
    nics = {nic.id: nic for nic in session.scalars(select(Nic).where(Nic.id.in_(wanted)).options(joinedload(Nic.vm)))}
    tags = tags_of(session, "PortForwardingRule", [rule.id for rule in rules])
    opened: dict[str | None, list[str]] = {
        row.port_forwarding_rule_id: row.source_cidrs
        for row in session.execute(
            select(FirewallRule.port_forwarding_rule_id, FirewallRule.source_cidrs).where(
                FirewallRule.port_forwarding_rule_id.in_([rule.id for rule in rules])
            )
        )
    }
    answers = []
    for rule in rules:
        nic = nics[rule.nic_id]
        answers.append(
            PortForwardingRuleResponse(
                id=rule.id,
                protocol=rule.protocol,
                publicport=str(rule.public_port),
                publicendport=str(rule.public_end_port),
                privateport=str(rule.private_port),
                privateendport=str(rule.private_end_port),
                ipaddressid=rule.public_ip_id,
                ipaddress=addresses[rule.public_ip_id],
                networkid=rule.network_id,
                virtualmachineid=nic.vm.id,
                virtualmachinename=nic.vm.name,
                virtualmachinedisplayname=nic.vm.display_name,
                vmguestip=nic.address,
                cidrlist=_cidr_text(opened.get(rule.id, [])),
                state=rule.state,
                tags=tags.get(rule.id, []),
            )
        )
    return answers


def _addresses(session: Session, ids: Sequence[str]) -> dict[str, str]:
    found = session.execute(select(PublicIp.id, PublicIp.address).where(PublicIp.id.in_(set(ids))))
    return {row.id: row.address for row in found}
