"""From rows to the policy that hosts enforce: groups of VMs that run, and members of the groups those refer to."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from sqlalchemy import select
from sqlalchemy.orm import Session

from controlplane.hypervisors.policy import ICMP, TCP, UDP, Group, Policy, Rule
from controlplane.store.models import (
    Network,
    NetworkOffering,
    Nic,
    NicSecondaryIp,
    SecurityGroupMember,
    SecurityGroupRule,
    Vm,
)

SERVICE = "SecurityGroup"
#: states of VMs that may send and receive
LIVE = ("Starting", "Running", "Stopping")
_NUMBERS = {"tcp": TCP, "udp": UDP, "icmp": ICMP, "all": None}


def load(session: Session) -> Policy:
    """The policy of the rows as they are."""
    offerings = session.execute(select(NetworkOffering.id, NetworkOffering.services)).all()
    secured = [row.id for row in offerings if SERVICE in row.services]
    if not secured:
        return Policy()
    nics = session.execute(
        select(Nic.id, Nic.vm_id, Nic.mac, Nic.address)
        .join(Vm, Vm.id == Nic.vm_id)
        .join(Network, Network.id == Nic.network_id)
        .where(Vm.state.in_(LIVE), Network.network_offering_id.in_(secured))
    ).all()
    groups: defaultdict[str, list[str]] = defaultdict(list)
    for vm_id, group_id in session.execute(
        select(SecurityGroupMember.vm_id, SecurityGroupMember.group_id)
        .join(Vm, Vm.id == SecurityGroupMember.vm_id)
        .where(Vm.state.in_(LIVE))
        .order_by(SecurityGroupMember.group_id)
    ):
        groups[vm_id].append(group_id)
    further: defaultdict[str, list[str]] = defaultdict(list)
    for nic_id, address in session.execute(select(NicSecondaryIp.nic_id, NicSecondaryIp.address)):
        further[nic_id].append(address)
    ports = [(row.vm_id, row.mac, (row.address, *further[row.id])) for row in nics]
    return make(ports, groups, session.scalars(select(SecurityGroupRule)))


def make(
    nics: Iterable[tuple[str, str, tuple[str, ...]]], groups: dict[str, list[str]], rows: Iterable[SecurityGroupRule]
) -> Policy:
    """The policy for ``nics`` (VM, MAC, addresses) of VMs that are in ``groups``, with all groups' rules. Pure."""
    ports: dict[tuple[str, str], tuple[str, ...]] = {}
    members: defaultdict[str, set[str]] = defaultdict(set)
    for vm_id, mac, addresses in nics:
        own = tuple(groups.get(vm_id, ()))
        ports[vm_id, mac] = own
        for id in own:
            members[id].update(addresses)
    ingress: defaultdict[str, set[Rule]] = defaultdict(set)
    egress: defaultdict[str, set[Rule]] = defaultdict(set)
    peers = set()
    for row in rows:
        if row.group_id in members:
            (ingress if row.traffic_type == "Ingress" else egress)[row.group_id].add(_rule(row))
            if row.peer_id is not None:
                peers.add(row.peer_id)
    return Policy(
        groups={id: Group(frozenset(ingress[id]), frozenset(egress[id])) for id in members},
        members={id: frozenset(members.get(id, ())) for id in peers},
        ports=ports,
    )


def _rule(row: SecurityGroupRule) -> Rule:
    number = _NUMBERS[row.protocol] if row.protocol in _NUMBERS else int(row.protocol)
    ports = (row.start_port, row.end_port or row.start_port) if row.start_port is not None else None
    return Rule(number, ports, row.icmp_type, row.icmp_code, row.cidr, row.peer_id)
