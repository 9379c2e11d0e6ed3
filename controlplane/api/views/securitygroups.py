"""Security groups as the API shows them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session, joinedload

from controlplane.api.command import Response, shown
from controlplane.api.listing import OwnedResponse, owned_by
from controlplane.api.tagging import TagResponse, tags_of
from controlplane.store.models import SecurityGroup, SecurityGroupMember, SecurityGroupRule, Vm


class SecurityGroupRuleResponse(Response):
    """A rule; the other side is a block, or a group of an account."""

    ruleid: str = shown("id of the rule", ...)
    protocol: str = shown("tcp, udp, icmp, all or a protocol number", ...)
    startport: int | None = shown("first port")
    endport: int | None = shown("last port")
    icmptype: int | None = shown("ICMP type, -1 for any")
    icmpcode: int | None = shown("ICMP code, -1 for any")
    cidr: str | None = shown("block of addresses")
    securitygroupname: str | None = shown("name of the other group")
    account: str | None = shown("account of the other group")
    tags: list[TagResponse] = shown("its tags", [])


class SecurityGroupResponse(OwnedResponse):
    """A security group."""

    id: str = shown("id of the group", ...)
    name: str = shown("name of the group", ...)
    description: str | None = shown("what it is for")
    ingressrule: list[SecurityGroupRuleResponse] = shown("what its members receive", [])
    egressrule: list[SecurityGroupRuleResponse] = shown("what its members send; without any, everything", [])
    tags: list[TagResponse] = shown("its tags", [])
    virtualmachinecount: int = shown("number of its members", 0)
    virtualmachineids: list[str] = shown("ids of its members", [])


def show_groups(
    session: Session, groups: Sequence[SecurityGroup], *, rules: Iterable[SecurityGroupRule] | None = None
) -> list[SecurityGroupResponse]:
    """Groups with all of their rules, or only with ``rules``."""
    ids = [group.id for group in groups]
    if rules is None:
        statement = select(SecurityGroupRule).where(SecurityGroupRule.group_id.in_(ids))
        statement = statement.options(joinedload(SecurityGroupRule.peer).joinedload(SecurityGroup.account))
        rules = session.scalars(statement.order_by(SecurityGroupRule.created, SecurityGroupRule.id))
    rules = list(rules)
    rule_tags = tags_of(session, "SecurityGroupRule", [rule.id for rule in rules])
    tags = tags_of(session, "SecurityGroup", ids)
    members: dict[str, list[str]] = {}
    statement_members = (
        select(SecurityGroupMember.group_id, SecurityGroupMember.vm_id)
        .join(Vm, Vm.id == SecurityGroupMember.vm_id)
        .where(SecurityGroupMember.group_id.in_(ids), Vm.removed.is_(None))
    )
    for group_id, vm_id in session.execute(statement_members.order_by(Vm.created, Vm.id)):
        members.setdefault(group_id, []).append(vm_id)
    answers = {
        group.id: SecurityGroupResponse(
            **owned_by(group.account),
            id=group.id,
            name=group.name,
            description=group.description,
            tags=tags.get(group.id, []),
            virtualmachinecount=len(members.get(group.id, [])),
            virtualmachineids=members.get(group.id, []),
        )
        for group in groups
    }
    for rule in rules:
        answer = answers[rule.group_id]
        shown_rule = _show_rule(rule, rule_tags.get(rule.id, []))
        (answer.ingressrule if rule.traffic_type == "Ingress" else answer.egressrule).append(shown_rule)
    return [answers[group.id] for group in groups]


def _show_rule(rule: SecurityGroupRule, tags: list[TagResponse]) -> SecurityGroupRuleResponse:
    icmp = rule.protocol == "icmp"
    return SecurityGroupRuleResponse(
        ruleid=rule.id,
        protocol=rule.protocol,
        startport=rule.start_port,
        endport=rule.end_port,
        icmptype=(-1 if rule.icmp_type is None else rule.icmp_type) if icmp else None,
        icmpcode=(-1 if rule.icmp_code is None else rule.icmp_code) if icmp else None,
        cidr=rule.cidr,
        securitygroupname=rule.peer.name if rule.peer else None,
        account=rule.peer.account.name if rule.peer else None,
        tags=tags,
    )
