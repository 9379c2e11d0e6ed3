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

    id: str = shown("id of the rule", ...)
    protocol: str = shown("tcp, udp, icmp or all", ...)
    startport: int | None = shown("first port")
    endport: int | None = shown("last port")
    icmptype: int | None = shown("ICMP type, -1 for any")
    icmpcode: int | None = shown("ICMP code, -1 for any")
    ipaddressid: str | None = shown("id of the public address, of an ingress rule")
    ipaddress: str | None = shown("the public address, of an ingress rule")
    networkid: str = shown("id of the network", ...)
    cidrlist: str = shown("sources, comma-joined", "")
    destcidrlist: str | None = shown("destinations of an egress rule, comma-joined")
    state: str = shown("Add, Active or Revoke", ...)
    fordisplay: bool = shown("it is shown to its owner", True)
    tags: list[TagResponse] = shown("its tags", [])


class PortForwardingRuleResponse(Response):
    """A port forwarding rule. Its ports are texts."""

    id: str = shown("id of the rule", ...)
    protocol: str = shown("tcp or udp", ...)
    publicport: str = shown("first public port", ...)
    publicendport: str = shown("last public port", ...)
    privateport: str = shown("first port of the VM", ...)
    privateendport: str = shown("last port of the VM", ...)
    ipaddressid: str = shown("id of the public address", ...)
    ipaddress: str = shown("the public address", ...)
    networkid: str = shown("id of the network", ...)
    virtualmachineid: str = shown("id of the VM", ...)
    virtualmachinename: str = shown("host name of the VM", ...)
    virtualmachinedisplayname: str = shown("display name of the VM", ...)
    vmguestip: str = shown("address of the VM", ...)
    cidrlist: str = shown("sources, comma-joined", "")
    state: str = shown("Add, Active or Revoke", ...)
    fordisplay: bool = shown("it is shown to its owner", True)
    tags: list[TagResponse] = shown("its tags", [])


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
                vmguestip=rule.guest_address or nic.address,
                cidrlist=_cidr_text(opened.get(rule.id, [])),
                state=rule.state,
                tags=tags.get(rule.id, []),
            )
        )
    return answers


def _addresses(session: Session, ids: Sequence[str]) -> dict[str, str]:
    found = session.execute(select(PublicIp.id, PublicIp.address).where(PublicIp.id.in_(set(ids))))
    return {row.id: row.address for row in found}
