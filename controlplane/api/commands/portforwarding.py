"""Port forwarding."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from controlplane import jobs
from controlplane.api import listing, tagging
from controlplane.api.call import Call
from controlplane.api.command import Async, Params, Response, ScopedListParams, Success, command, param
from controlplane.api.tagging import TagEntry, remove_tags
from controlplane.api.views.rules import PortForwardingRuleResponse, show_forwards
from controlplane.convergence.desired import desire_network
from controlplane.errors import ParameterError
from controlplane.network import addresses, addressing, forwarding
from controlplane.network.ports import PORT_PROTOCOLS, Ports, parse_ports, parse_protocol
from controlplane.store.models import AsyncJob, Network, Nic, PortForwardingRule, PublicIp, Vm


class CreatePortForwardingRule(Params):
    ipaddressid: str = param("id of the public address", entity="IPAddress")
    protocol: str = param("tcp or udp")
    publicport: int = param("first port of the public address")
    publicendport: int | None = param("last port of the public address, publicport unless given", default=None)
    privateport: int = param("first port of the VM")
    privateendport: int | None = param("last port of the VM, privateport unless given", default=None)
    virtualmachineid: str = param("id of the VM", entity="UserVm")
    networkid: str | None = param("network of the VM, that of the address unless given", default=None, entity="Network")
    vmguestip: str | None = param("address of the VM on that network", default=None)
    openfirewall: bool = param("open the firewall for the ports too", default=False)
    cidrlist: list[str] | None = param("with openfirewall: sources to open it for, all unless given", default=None)


class RuleId(Params):
    id: str = param("id of the port forwarding rule", entity="PortForwardingRule")


class UpdatePortForwardingRule(RuleId):
    privateport: int | None = param("new first port of the VM", default=None)
    privateendport: int | None = param("new last port of the VM", default=None)
    virtualmachineid: str | None = param("new VM", default=None, entity="UserVm")
    vmguestip: str | None = param("address of the VM on the network", default=None)


class ListPortForwardingRules(ScopedListParams):
    id: str | None = param("id of the rule", default=None, entity="PortForwardingRule")
    ipaddressid: str | None = param("rules of this public address", default=None, entity="IPAddress")
    networkid: str | None = param("rules of this network", default=None, entity="Network")
    virtualmachineid: str | None = param("rules that point to this VM", default=None, entity="UserVm")
    tags: list[TagEntry] | None = param("rules with all of these tags", default=None)


@command(
    "createPortForwardingRule",
    description="Sends ports of a public address to a VM",
    params=CreatePortForwardingRule,
    response=PortForwardingRuleResponse,
    object_name="portforwardingrule",
    is_async=True,
    creates=True,
    event="NET.RULEADD",
)
def create_port_forwarding_rule(call: Call, params: CreatePortForwardingRule) -> Async:
    address = call.lookup(PublicIp, params.ipaddressid, "ipaddressid")
    vm = call.lookup(Vm, params.virtualmachineid, "virtualmachineid")
    network = addresses.need_network(address)
    if params.networkid is not None and call.lookup(Network, params.networkid, "networkid").id != network.id:
        raise ParameterError(f"networkid: IP address {address.address} is associated with network {network.id}")
    target = forwarding.target_on(call.session, vm, network, params.vmguestip)
    rule = forwarding.create(
        call.session,
        address=address,
        nic=target.nic,
        secondary=target.secondary,
        protocol=parse_protocol(params.protocol, PORT_PROTOCOLS),
        public=parse_ports(params.publicport, params.publicendport, "publicport", "publicendport"),
        private=parse_ports(params.privateport, params.privateendport, "privateport", "privateendport"),
        open_firewall=params.openfirewall,
        source_cidrs=addressing.parse_cidrs("cidrlist", params.cidrlist or []),
    )
    return Async(
        "PortForwardingRule",
        rule.id,
        f"forwarding {rule.protocol} {Ports(rule.public_port, rule.public_end_port)} of {address.address} to {vm.name}",
        target=desire_network(call.session, network.id),
        completion="forward.activate",
        arguments={"rule_id": rule.id},
    )


@jobs.completion("forward.activate")
def _activated(session: Session, job: AsyncJob, *, rule_id: str) -> Response:
    rule = forwarding.activate(session, rule_id)
    return show_forwards(session, [rule])[0] if rule is not None else Success()


@jobs.reversal("forward.activate")
def _not_activated(session: Session, job: AsyncJob, *, rule_id: str) -> None:
    rule = session.get(PortForwardingRule, rule_id)
    if rule is not None:
        forwarding.revoke(session, rule)
        forwarding.remove(session, rule_id)


@command(
    "updatePortForwardingRule",
    description="Sends the traffic of a port forwarding rule to another VM or to other ports of it",
    params=UpdatePortForwardingRule,
    response=PortForwardingRuleResponse,
    object_name="portforwardingrule",
    is_async=True,
    event="NET.RULEMODIFY",
)
def update_port_forwarding_rule(call: Call, params: UpdatePortForwardingRule) -> Async:
    rule = call.lookup(PortForwardingRule, params.id)
    before = {name: getattr(rule, name) for name in ("nic_id", "guest_address", "private_port", "private_end_port")}
    target: forwarding.Target | None = None
    if params.virtualmachineid is not None:
        vm = call.lookup(Vm, params.virtualmachineid, "virtualmachineid")
        target = forwarding.target_on(call.session, vm, addresses.need_network(rule.public_ip), params.vmguestip)
    elif params.vmguestip is not None:
        target = forwarding.address_of(rule.nic, params.vmguestip)
    forwarding.change(call.session, rule, target=target, private=_private_ports(rule, params))
    return Async(
        "PortForwardingRule",
        rule.id,
        f"updating port forwarding rule {rule.id}",
        target=desire_network(call.session, rule.network_id),
        completion="forward.changed",
        arguments={"rule_id": rule.id, "before": before},
    )


def _private_ports(rule: PortForwardingRule, params: UpdatePortForwardingRule) -> Ports | None:
    """The new private ports; a range moves as a whole when only its first port is given."""
    if params.privateport is None:
        if params.privateendport is not None:
            raise ParameterError("privateendport needs privateport")
        return None
    end = params.privateendport
    if end is None:
        end = params.privateport + rule.public_end_port - rule.public_port
    return parse_ports(params.privateport, end, "privateport", "privateendport")


@jobs.completion("forward.changed")
def _changed(session: Session, job: AsyncJob, *, rule_id: str, before: dict[str, Any]) -> Response:
    return _activated(session, job, rule_id=rule_id)


@jobs.reversal("forward.changed")
def _not_changed(session: Session, job: AsyncJob, *, rule_id: str, before: dict[str, Any]) -> None:
    rule = session.get(PortForwardingRule, rule_id)
    if rule is None or rule.state == "Revoke" or session.get(Nic, before["nic_id"]) is None:
        return
    for name, value in before.items():
        setattr(rule, name, value)
    rule.state = "Active"
    session.flush()


@command(
    "deletePortForwardingRule",
    description="Deletes a port forwarding rule, with the firewall rule that was opened for it",
    params=RuleId,
    is_async=True,
    event="NET.RULEDELETE",
)
def delete_port_forwarding_rule(call: Call, params: RuleId) -> Async:
    rule = call.lookup(PortForwardingRule, params.id)
    forwarding.revoke(call.session, rule)
    return Async(
        "PortForwardingRule",
        rule.id,
        f"deleting port forwarding rule {rule.id}",
        target=desire_network(call.session, rule.network_id),
        completion="forward.deleted",
        arguments={"rule_id": rule.id},
    )


@jobs.completion("forward.deleted")
def _deleted(session: Session, job: AsyncJob, *, rule_id: str) -> Response:
    remove_tags(session, "PortForwardingRule", rule_id)
    forwarding.remove(session, rule_id)
    return Success()


@command(
    "listPortForwardingRules",
    description="Lists port forwarding rules",
    params=ListPortForwardingRules,
    response=PortForwardingRuleResponse,
    object_name="portforwardingrule",
)
def list_port_forwarding_rules(
    call: Call, params: ListPortForwardingRules
) -> tuple[int, list[PortForwardingRuleResponse]]:
    statement = (
        select(PortForwardingRule)
        .join(Network, Network.id == PortForwardingRule.network_id)
        .order_by(PortForwardingRule.created, PortForwardingRule.id)
    )
    statement = listing.scope(call, statement, Network.account_id, params, by_id=params.id is not None)
    for column, value in (
        (PortForwardingRule.id, params.id),
        (PortForwardingRule.public_ip_id, params.ipaddressid),
        (PortForwardingRule.network_id, params.networkid),
    ):
        if value is not None:
            statement = statement.where(column == value)
    if params.virtualmachineid is not None:
        nics = select(Nic.id).where(Nic.vm_id == params.virtualmachineid)
        statement = statement.where(PortForwardingRule.nic_id.in_(nics))
    statement = tagging.with_tags(statement, "PortForwardingRule", PortForwardingRule.id, params.tags)
    statement = listing.search(statement, params.keyword, PortForwardingRule.protocol, PortForwardingRule.public_port)
    return listing.fetch(call, statement, params, lambda rows: list(show_forwards(call.session, rows)))
