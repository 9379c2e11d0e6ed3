"""Load balancer rules and their members."""

from __future__ import annotations

from sqlalchemy import select

from controlplane.api import listing, tagging
from controlplane.api.balancing import changed
from controlplane.api.call import Call
from controlplane.api.command import Async, Entry, Listing, ListParams, Params, ScopedListParams, command, param
from controlplane.api.tagging import TagEntry
from controlplane.api.views.loadbalancers import (
    LoadBalancerInstanceResponse,
    LoadBalancerResponse,
    show_members,
    show_rules,
    with_addresses,
)
from controlplane.api.views.vms import show_vms
from controlplane.convergence.desired import desire_network
from controlplane.errors import ParameterError
from controlplane.network import addresses, addressing, forwarding, limits, loadbalancing
from controlplane.network.ports import parse_ports
from controlplane.store.models import LoadBalancer, LoadBalancerMember, Network, Nic, PublicIp, Vm


class CreateLoadBalancerRule(Params):
    name: str = param("name of the rule")
    algorithm: str = param("how connections are spread", choices=loadbalancing.ALGORITHMS)
    publicport: int = param("port of the public address")
    privateport: int = param("port of the VMs")
    publicipid: str | None = param("id of the public address", default=None, entity="IPAddress")
    networkid: str | None = param(
        "network of the VMs; without publicipid, a new address is taken for it", default=None, entity="Network"
    )
    protocol: str = param("tcp, tcp-proxy, http or ssl", default="tcp", choices=loadbalancing.PROTOCOLS)
    description: str | None = param("description of the rule", default=None, length=4096)
    cidrlist: list[str] | None = param("sources that may connect, all unless given", default=None)
    openfirewall: bool = param("open the firewall for the port too", default=False)


class RuleId(Params):
    id: str = param("id of the load balancer rule", entity="LoadBalancer")


class UpdateLoadBalancerRule(RuleId):
    name: str | None = param("new name", default=None)
    description: str | None = param("new description", default=None, length=4096)
    algorithm: str | None = param("new algorithm", default=None, choices=loadbalancing.ALGORITHMS)
    protocol: str | None = param("new protocol", default=None, choices=loadbalancing.PROTOCOLS)


class ListLoadBalancerRules(ScopedListParams):
    id: str | None = param("id of the rule", default=None, entity="LoadBalancer")
    name: str | None = param("rules of this name", default=None)
    publicipid: str | None = param("rules of this public address", default=None, entity="IPAddress")
    networkid: str | None = param("rules of this network", default=None, entity="Network")
    zoneid: str | None = param("rules of this zone", default=None, entity="Zone")
    virtualmachineid: str | None = param("rules with this VM", default=None, entity="UserVm")
    tags: list[TagEntry] | None = param("rules with all of these tags", default=None)


class VmAddress(Entry):
    """``vmidipmap[n].vmid`` and ``vmidipmap[n].vmip``."""

    vmid: str = param("id of the VM", entity="UserVm")
    vmip: str = param("address of the VM on the rule's network")


class Members(RuleId):
    virtualmachineids: list[str] | None = param("ids of the VMs", default=None)
    vmidipmap: list[VmAddress] | None = param("VMs, each with its address", default=None)


class ListLoadBalancerRuleInstances(ListParams):
    id: str = param("id of the load balancer rule", entity="LoadBalancer")
    applied: bool = param("false: the VMs that could be added", default=True)
    lbvmips: bool = param("list each VM once, as lbrulevmidip with its addresses on the rule", default=False)


@command(
    "createLoadBalancerRule",
    description="Spreads connections to a port of a public address over VMs",
    params=CreateLoadBalancerRule,
    response=LoadBalancerResponse,
    object_name="loadbalancer",
    is_async=True,
    creates=True,
    event="LB.CREATE",
)
def create_load_balancer_rule(call: Call, params: CreateLoadBalancerRule) -> Async:
    rule = loadbalancing.create(
        call.session,
        address=_address(call, params),
        name=params.name,
        description=params.description,
        algorithm=params.algorithm,
        protocol=params.protocol,
        public_port=parse_ports(params.publicport, None, "publicport", "publicport").first,
        private_port=parse_ports(params.privateport, None, "privateport", "privateport").first,
        source_cidrs=addressing.parse_cidrs("cidrlist", params.cidrlist or []),
        open_firewall=params.openfirewall,
    )
    return Async(
        "LoadBalancer",
        rule.id,
        f"creating load balancer rule {rule.name} on port {rule.public_port} of {rule.public_ip.address}",
        target=desire_network(call.session, rule.network_id),
        completion="balancer.created",
        arguments={"rule_id": rule.id},
    )


def _address(call: Call, params: CreateLoadBalancerRule) -> PublicIp:
    network = call.lookup(Network, params.networkid, "networkid") if params.networkid is not None else None
    if params.publicipid is None:
        if network is None:
            raise ParameterError("publicipid or networkid must be given")
        owner = network.account
        call.check_limit(owner, limits.PUBLIC_IPS, limits.used(call.session, owner, limits.PUBLIC_IPS))
        return addresses.associate(call.session, network, None)
    address = call.lookup(PublicIp, params.publicipid, "publicipid")
    own = addresses.need_network(address)
    if network is not None and network.id != own.id:
        raise ParameterError(f"networkid: IP address {address.address} is associated with network {own.id}")
    return address


@command(
    "updateLoadBalancerRule",
    description="Changes a load balancer rule",
    params=UpdateLoadBalancerRule,
    response=LoadBalancerResponse,
    object_name="loadbalancer",
    is_async=True,
    event="LB.UPDATE",
)
def update_load_balancer_rule(call: Call, params: UpdateLoadBalancerRule) -> Async:
    rule = call.lookup(LoadBalancer, params.id)
    loadbalancing.need(rule)
    wanted = {name: getattr(params, name) for name in ("name", "description", "algorithm", "protocol")}
    before = {name: getattr(rule, name) for name, value in wanted.items() if value is not None}
    for name in before:
        setattr(rule, name, wanted[name])
    return changed(call, rule, f"updating load balancer rule {rule.name}", show="rule", before=before)


@command(
    "deleteLoadBalancerRule",
    description="Deletes a load balancer rule, with the firewall rule that was opened for it",
    params=RuleId,
    is_async=True,
    event="LB.DELETE",
)
def delete_load_balancer_rule(call: Call, params: RuleId) -> Async:
    rule = call.lookup(LoadBalancer, params.id)
    loadbalancing.revoke(call.session, rule)
    return Async(
        "LoadBalancer",
        rule.id,
        f"deleting load balancer rule {rule.name}",
        target=desire_network(call.session, rule.network_id),
        completion="balancer.deleted",
        arguments={"rule_id": rule.id},
    )


@command(
    "listLoadBalancerRules",
    description="Lists load balancer rules",
    params=ListLoadBalancerRules,
    response=LoadBalancerResponse,
    object_name="loadbalancerrule",
)
def list_load_balancer_rules(call: Call, params: ListLoadBalancerRules) -> tuple[int, list[LoadBalancerResponse]]:
    statement = (
        select(LoadBalancer)
        .join(Network, Network.id == LoadBalancer.network_id)
        .order_by(LoadBalancer.created, LoadBalancer.id)
    )
    statement = listing.scope(call, statement, Network.account_id, params, by_id=params.id is not None)
    for column, value in (
        (LoadBalancer.id, params.id),
        (LoadBalancer.name, params.name),
        (LoadBalancer.public_ip_id, params.publicipid),
        (LoadBalancer.network_id, params.networkid),
        (Network.zone_id, params.zoneid),
    ):
        if value is not None:
            statement = statement.where(column == value)
    if params.virtualmachineid is not None:
        members = (
            select(LoadBalancerMember.rule_id)
            .join(Nic, Nic.id == LoadBalancerMember.nic_id)
            .where(Nic.vm_id == params.virtualmachineid, LoadBalancerMember.state != "Revoke")
        )
        statement = statement.where(LoadBalancer.id.in_(members))
    statement = tagging.with_tags(statement, "LoadBalancer", LoadBalancer.id, params.tags)
    statement = listing.search(statement, params.keyword, LoadBalancer.name, LoadBalancer.public_port)
    return listing.fetch(call, statement, params, lambda rows: list(show_rules(call.session, rows)))


def _targets(
    call: Call, rule: LoadBalancer, params: Members
) -> tuple[list[forwarding.Target], list[forwarding.Target]]:
    """On the rule's network: the NICs of VMs that a command names alone, and those named with an address."""
    mapped = list(dict.fromkeys((entry.vmid, entry.vmip) for entry in params.vmidipmap or ()))
    # clients send VMs in the list and in the map
    alone = [(id, None) for id in dict.fromkeys(params.virtualmachineids or ()) if id not in dict(mapped)]
    if not alone and not mapped:
        raise ParameterError("virtualmachineids or vmidipmap must be given")

    def find(id: str, address: str | None) -> forwarding.Target:
        return forwarding.target_on(call.session, call.lookup(Vm, id, "virtualmachineids"), rule.network, address)

    return [find(*one) for one in alone], [find(*one) for one in mapped]


@command(
    "assignToLoadBalancerRule",
    description="Adds VMs to a load balancer rule",
    params=Members,
    is_async=True,
    event="LB.ASSIGN.TO.RULE",
)
def assign_to_load_balancer_rule(call: Call, params: Members) -> Async:
    rule = call.lookup(LoadBalancer, params.id)
    alone, mapped = _targets(call, rule, params)
    targets = [*alone, *mapped]
    added = loadbalancing.assign(call.session, rule, targets)
    names = ", ".join(target.nic.vm.name for target in targets)
    return changed(call, rule, f"adding {names} to load balancer rule {rule.name}", added=("member", added))


@command(
    "removeFromLoadBalancerRule",
    description="Takes VMs out of a load balancer rule; connections that they have go on",
    params=Members,
    is_async=True,
    event="LB.REMOVE.FROM.RULE",
)
def remove_from_load_balancer_rule(call: Call, params: Members) -> Async:
    rule = call.lookup(LoadBalancer, params.id)
    alone, mapped = _targets(call, rule, params)
    # a VM leaves with all of its addresses
    everything = [
        one for target in alone for one in loadbalancing.targets_of(call.session, rule, target.nic) or [target]
    ]
    targets = [*everything, *mapped]
    revoked = loadbalancing.unassign(call.session, rule, targets)
    names = ", ".join(target.nic.vm.name for target in targets)
    return changed(call, rule, f"taking {names} out of load balancer rule {rule.name}", revoked=("member", revoked))


@command(
    "listLoadBalancerRuleInstances",
    description="Lists the VMs of a load balancer rule, with what its health checks say of them",
    params=ListLoadBalancerRuleInstances,
    response=LoadBalancerInstanceResponse,
    object_name="loadbalancerruleinstance",
)
def list_load_balancer_rule_instances(
    call: Call, params: ListLoadBalancerRuleInstances
) -> tuple[int, list[LoadBalancerInstanceResponse]] | Listing:
    rule = call.lookup(LoadBalancer, params.id)
    members = show_members(call.session, rule)
    if params.applied:
        if params.lbvmips:
            return Listing("lbrulevmidip", *listing.cut(call, with_addresses(members), params))
        return listing.cut(call, members, params)
    free = (
        select(Vm)
        .join(Nic, Nic.vm_id == Vm.id)
        .where(Nic.network_id == rule.network_id, Vm.removed.is_(None), Vm.state.not_in(forwarding.GONE))
        .where(Vm.id.not_in([member.id for member in members]))
        .order_by(Vm.created, Vm.id)
    )
    total, others = listing.fetch(
        call,
        free,
        params,
        lambda rows: [
            LoadBalancerInstanceResponse(**{field: getattr(vm, field) for field in type(vm).model_fields})
            for vm in show_vms(call.session, rows)
        ],
    )
    return Listing("lbrulevmidip", total, with_addresses(others)) if params.lbvmips else (total, others)
