"""Rules of security groups: authorize and revoke, ingress and egress."""

from __future__ import annotations

from sqlalchemy.orm import Session

from controlplane import jobs
from controlplane.api import securitygroups
from controlplane.api.call import Call
from controlplane.api.command import Async, Params, Response, Success, command, param
from controlplane.api.securitygroups import GroupParams, PeerEntry
from controlplane.api.views.securitygroups import SecurityGroupResponse, show_groups
from controlplane.errors import unknown_id
from controlplane.network import addressing
from controlplane.securitygroups import desired, groups
from controlplane.store.models import AsyncJob, SecurityGroup, SecurityGroupRule


class AuthorizeRule(GroupParams):
    securitygroupid: str | None = param("id of the group", default=None, entity="SecurityGroup")
    securitygroupname: str | None = param("name of the group, in place of its id", default=None)
    protocol: str = param("tcp, udp, icmp, all or a protocol number", default="tcp")
    startport: int | None = param("first port; every port unless given", default=None)
    endport: int | None = param("last port, startport unless given", default=None)
    icmptype: int | None = param("ICMP type, -1 for any", default=None)
    icmpcode: int | None = param("ICMP code, -1 for any", default=None)
    cidrlist: list[str] | None = param("blocks of addresses on the other side", default=None)
    usersecuritygrouplist: list[PeerEntry] | None = param("groups on the other side", default=None)


class RuleId(Params):
    id: str = param("id of the rule", entity="SecurityGroupRule")


def _authorize(call: Call, params: AuthorizeRule, traffic_type: str) -> Async:
    group = securitygroups.find(call, params.securitygroupid, params.securitygroupname, params)
    traffic = groups.parse_service(
        params.protocol,
        start_port=params.startport,
        end_port=params.endport,
        icmp_type=params.icmptype,
        icmp_code=params.icmpcode,
    )
    rules, new = groups.authorize(
        call.session,
        group,
        traffic_type,
        traffic,
        cidrs=addressing.parse_cidrs("cidrlist", params.cidrlist or []),
        peers=securitygroups.peers(call, group, params.usersecuritygrouplist or []),
    )
    return securitygroups.applied(
        call,
        group,
        f"allowing {traffic} {'to' if traffic_type == 'Ingress' else 'from'} members of security group {group.name}",
        "securitygroup.authorized",
        group_id=group.id,
        rule_ids=[rule.id for rule in rules],
        new_ids=new,
    )


def _revoke(call: Call, params: RuleId, traffic_type: str) -> Async:
    rule = call.session.get(SecurityGroupRule, params.id)
    if rule is None or rule.traffic_type != traffic_type:
        raise unknown_id("id", params.id)
    group = call.lookup(SecurityGroup, rule.group_id)
    groups.revoke(call.session, [rule.id])
    return securitygroups.applied(
        call, group, f"revoking a rule of security group {group.name}", "securitygroup.revoked"
    )


def _register(traffic_type: str, *, authorize: str, revoke: str) -> None:
    """The commands of one direction, with these descriptions."""

    @command(
        f"authorizeSecurityGroup{traffic_type}",
        description=authorize,
        params=AuthorizeRule,
        response=SecurityGroupResponse,
        object_name="securitygroup",
        is_async=True,
        event=f"SG.AUTH.{traffic_type.upper()}",
    )
    def authorize_rule(call: Call, params: AuthorizeRule) -> Async:
        return _authorize(call, params, traffic_type)

    @command(
        f"revokeSecurityGroup{traffic_type}",
        description=revoke,
        params=RuleId,
        is_async=True,
        event=f"SG.REVOKE.{traffic_type.upper()}",
    )
    def revoke_rule(call: Call, params: RuleId) -> Async:
        return _revoke(call, params, traffic_type)


_register(
    "Ingress",
    authorize="Lets members of a security group receive something",
    revoke="Deletes an ingress rule; connections that only it let in end",
)
_register(
    "Egress",
    authorize="Lets members of a security group send something; from the first such rule on, nothing else",
    revoke="Deletes an egress rule; connections that only it let out end",
)


@jobs.completion("securitygroup.authorized")
def _authorized(session: Session, job: AsyncJob, *, group_id: str, rule_ids: list[str], new_ids: list[str]) -> Response:
    group = session.get(SecurityGroup, group_id)
    if group is None:
        return Success()
    rules = [rule for id in rule_ids if (rule := session.get(SecurityGroupRule, id)) is not None]
    return show_groups(session, [group], rules=rules)[0]


@jobs.reversal("securitygroup.authorized")
def _not_authorized(session: Session, job: AsyncJob, *, group_id: str, rule_ids: list[str], new_ids: list[str]) -> None:
    groups.revoke(session, new_ids)
    desired.desire(session)


@jobs.completion("securitygroup.revoked")
def _revoked(session: Session, job: AsyncJob) -> Response:
    return Success()
