"""Ingress firewall of public addresses."""

from __future__ import annotations

from sqlalchemy import select

from controlplane.api import rules
from controlplane.api.call import Call
from controlplane.api.command import Async, Params, ScopedListParams, command, param
from controlplane.api.rules import RuleId
from controlplane.api.tagging import TagEntry
from controlplane.api.views.rules import FirewallResponse
from controlplane.network import addressing, firewall
from controlplane.network.ports import parse_traffic
from controlplane.store.models import FirewallRule, PublicIp


class CreateFirewallRule(Params):
    ipaddressid: str = param("id of the public address", entity="IPAddress")
    protocol: str = param("tcp, udp or icmp")
    startport: int | None = param("first port; every port unless given", default=None)
    endport: int | None = param("last port, startport unless given", default=None)
    cidrlist: list[str] | None = param("sources to open it for, all unless given", default=None)
    icmptype: int | None = param("ICMP type, -1 for any", default=None)
    icmpcode: int | None = param("ICMP code, -1 for any", default=None)


class ListFirewallRules(ScopedListParams):
    id: str | None = param("id of the rule", default=None, entity="FirewallRule")
    ipaddressid: str | None = param("rules of this public address", default=None, entity="IPAddress")
    networkid: str | None = param("rules of this network", default=None, entity="Network")
    tags: list[TagEntry] | None = param("rules with all of these tags", default=None)


@command(
    "createFirewallRule",
    description="Opens ports of a public address",
    params=CreateFirewallRule,
    response=FirewallResponse,
    object_name="firewallrule",
    is_async=True,
    creates=True,
    event="FIREWALL.OPEN",
)
def create_firewall_rule(call: Call, params: CreateFirewallRule) -> Async:
    address = call.lookup(PublicIp, params.ipaddressid, "ipaddressid")
    traffic = parse_traffic(
        params.protocol,
        firewall.INGRESS_PROTOCOLS,
        start_port=params.startport,
        end_port=params.endport,
        icmp_type=params.icmptype,
        icmp_code=params.icmpcode,
    )
    sources = addressing.parse_cidrs("cidrlist", params.cidrlist or [])
    rule = firewall.create_ingress(call.session, address, traffic, sources)
    return rules.created(call, rule, f"opening {traffic} of {address.address}")


@command(
    "updateFirewallRule",
    description="Shows a firewall rule; what it matches cannot be changed, make a new one instead",
    params=RuleId,
    response=FirewallResponse,
    object_name="firewallrule",
    is_async=True,
    event="FIREWALL.UPDATE",
)
def update_firewall_rule(call: Call, params: RuleId) -> Async:
    return rules.unchanged(rules.find(call, params.id, "Ingress"))


@command(
    "deleteFirewallRule",
    description="Deletes a firewall rule",
    params=RuleId,
    is_async=True,
    event="FIREWALL.CLOSE",
)
def delete_firewall_rule(call: Call, params: RuleId) -> Async:
    return rules.deleted(call, rules.find(call, params.id, "Ingress"))


@command(
    "listFirewallRules",
    description="Lists firewall rules of public addresses",
    params=ListFirewallRules,
    response=FirewallResponse,
    object_name="firewallrule",
)
def list_firewall_rules(call: Call, params: ListFirewallRules) -> tuple[int, list[FirewallResponse]]:
    statement = select(FirewallRule).where(FirewallRule.traffic_type == "Ingress")
    if params.ipaddressid is not None:
        statement = statement.where(FirewallRule.public_ip_id == params.ipaddressid)
    return rules.page(call, statement, params, id=params.id, network_id=params.networkid, tags=params.tags)
