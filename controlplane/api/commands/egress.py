"""Egress firewall of networks."""

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
from controlplane.store.models import FirewallRule, Network


class CreateEgressFirewallRule(Params):
    networkid: str = param("id of the network", entity="Network")
    protocol: str = param("tcp, udp, icmp or all")
    startport: int | None = param("first port; every port unless given", default=None)
    endport: int | None = param("last port, startport unless given", default=None)
    cidrlist: list[str] | None = param("sources within the network, all of it unless given", default=None)
    destcidrlist: list[str] | None = param("destinations, all unless given", default=None)
    icmptype: int | None = param("ICMP type, -1 for any", default=None)
    icmpcode: int | None = param("ICMP code, -1 for any", default=None)


class ListEgressFirewallRules(ScopedListParams):
    id: str | None = param("id of the rule", default=None, entity="FirewallRule")
    networkid: str | None = param("rules of this network", default=None, entity="Network")
    tags: list[TagEntry] | None = param("rules with all of these tags", default=None)


@command(
    "createEgressFirewallRule",
    description="Makes an exception to what guests of a network may send by default",
    params=CreateEgressFirewallRule,
    response=FirewallResponse,
    object_name="firewallrule",
    is_async=True,
    creates=True,
    event="FIREWALL.EGRESS.OPEN",
)
def create_egress_firewall_rule(call: Call, params: CreateEgressFirewallRule) -> Async:
    network = call.lookup(Network, params.networkid, "networkid")
    traffic = parse_traffic(
        params.protocol,
        firewall.EGRESS_PROTOCOLS,
        start_port=params.startport,
        end_port=params.endport,
        icmp_type=params.icmptype,
        icmp_code=params.icmpcode,
    )
    rule = firewall.create_egress(
        call.session,
        network,
        traffic,
        addressing.parse_cidrs("cidrlist", params.cidrlist or []),
        addressing.parse_cidrs("destcidrlist", params.destcidrlist or []),
    )
    return rules.created(call, rule, f"adding egress rule {traffic} to network {network.name}")


@command(
    "updateEgressFirewallRule",
    description="Shows an egress rule; what it matches cannot be changed, make a new one instead",
    params=RuleId,
    response=FirewallResponse,
    object_name="firewallrule",
    is_async=True,
    event="FIREWALL.EGRESS.UPDATE",
)
def update_egress_firewall_rule(call: Call, params: RuleId) -> Async:
    return rules.unchanged(rules.find(call, params.id, "Egress"))


@command(
    "deleteEgressFirewallRule",
    description="Deletes an egress rule",
    params=RuleId,
    is_async=True,
    event="FIREWALL.EGRESS.CLOSE",
)
def delete_egress_firewall_rule(call: Call, params: RuleId) -> Async:
    return rules.deleted(call, rules.find(call, params.id, "Egress"))


@command(
    "listEgressFirewallRules",
    description="Lists egress rules of networks",
    params=ListEgressFirewallRules,
    response=FirewallResponse,
    object_name="firewallrule",
)
def list_egress_firewall_rules(call: Call, params: ListEgressFirewallRules) -> tuple[int, list[FirewallResponse]]:
    statement = select(FirewallRule).where(FirewallRule.traffic_type == "Egress")
    return rules.page(call, statement, params, id=params.id, network_id=params.networkid, tags=params.tags)
