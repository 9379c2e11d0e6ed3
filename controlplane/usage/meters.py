"""What is metered: from rows as they are to the spans that they are worth now. One meter a kind of row.

A new kind of resource is one more function here, with ``@meter``: it is then recorded from the
transaction that makes the row to the one that deletes it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, Select, select, true
from sqlalchemy.orm import Session

from controlplane.network import vpnusers
from controlplane.store.models import (
    Base,
    LoadBalancer,
    Network,
    Nic,
    PortForwardingRule,
    PublicIp,
    SecurityGroup,
    SecurityGroupMember,
    ServiceOffering,
    Snapshot,
    Template,
    Vm,
    Volume,
    VpnUser,
)
from controlplane.usage.types import UsageType


@dataclass(frozen=True)
class Worth:
    """A span that a row is worth now. ``counts`` None is in between: one that lasts goes on, none is begun."""

    usage_type: UsageType
    subject_id: str
    account_id: str
    zone_id: str
    details: Mapping[str, Any] = field(default_factory=dict)
    counts: bool | None = True


#: ids of metered rows; None for all
Ids = Iterable[str] | None
Reader = Callable[[Session, Ids], Iterator[Worth]]


@dataclass(frozen=True)
class Meter:
    """``read`` gives what the rows with those ids are worth; ``types`` is all that it may give.

    ``touched_by``: model -> the ids of metered rows that a change of these rows (model's ids) may matter to.
    """

    types: tuple[UsageType, ...]
    read: Reader
    touched_by: Mapping[type[Base], Callable[[list[str]], Select[Any]] | None]


METERS: list[Meter] = []


def meter(
    *types: UsageType, touched_by: Mapping[type[Base], Callable[[list[str]], Select[Any]] | None]
) -> Callable[[Reader], Reader]:
    """Register a meter. ``touched_by`` with None: the model is the metered one itself."""

    def register(read: Reader) -> Reader:
        METERS.append(Meter(types, read, touched_by))
        return read

    return register


def _among(column: Any, ids: Ids) -> ColumnElement[bool]:
    return true() if ids is None else column.in_(list(ids))


_GONE = ("Destroyed", "Expunging", "Error")


@meter(UsageType.RUNNING_VM, UsageType.ALLOCATED_VM, touched_by={Vm: None})
def vms(session: Session, ids: Ids) -> Iterator[Worth]:
    """A VM is allocated until it is destroyed, and runs from Running to Stopped, a reboot included."""
    statement = (
        select(
            Vm.id,
            Vm.name,
            Vm.state,
            Vm.account_id,
            Vm.zone_id,
            Vm.template_id,
            ServiceOffering.id.label("offering_id"),
            ServiceOffering.cpu_number,
            ServiceOffering.cpu_speed,
            ServiceOffering.memory,
        )
        .join(ServiceOffering, ServiceOffering.id == Vm.service_offering_id)
        .where(_among(Vm.id, ids), Vm.removed.is_(None))
    )
    for row in session.execute(statement):
        details = {
            "name": row.name,
            "vm_id": row.id,
            "offering_id": row.offering_id,
            "template_id": row.template_id,
            "cpu_number": row.cpu_number,
            "cpu_speed": row.cpu_speed,
            "memory": row.memory,
        }
        yield Worth(UsageType.ALLOCATED_VM, row.id, row.account_id, row.zone_id, details, counts=row.state not in _GONE)
        yield Worth(UsageType.RUNNING_VM, row.id, row.account_id, row.zone_id, details, counts=_runs(row.state))


def _runs(state: str) -> bool | None:
    return None if state in ("Starting", "Stopping") else state == "Running"


def _ids_by(column: Any) -> Callable[[list[str]], Select[Any]]:
    """The ids of those rows of a column's table that have one of some values in it."""
    return lambda values: select(column.class_.id).where(column.in_(values))


@meter(
    UsageType.NETWORK_OFFERING,
    touched_by={Nic: None, Vm: _ids_by(Nic.vm_id), Network: _ids_by(Nic.network_id)},
)
def nics(session: Session, ids: Ids) -> Iterator[Worth]:
    """A VM uses the network offering of each of its NICs while it runs."""
    statement = (
        select(
            Nic.id,
            Nic.is_default,
            Nic.network_id,
            Vm.id.label("vm_id"),
            Vm.name,
            Vm.state,
            Vm.account_id,
            Vm.zone_id,
            Network.network_offering_id,
        )
        .join(Vm, Vm.id == Nic.vm_id)
        .join(Network, Network.id == Nic.network_id)
        .where(_among(Nic.id, ids), Vm.removed.is_(None))
    )
    for row in session.execute(statement):
        details = {
            "usage_id": row.network_offering_id,
            "offering_id": row.network_offering_id,
            "vm_id": row.vm_id,
            "name": row.name,
            "network_id": row.network_id,
            "is_default": row.is_default,
        }
        yield Worth(UsageType.NETWORK_OFFERING, row.id, row.account_id, row.zone_id, details, counts=_runs(row.state))


@meter(UsageType.IP_ADDRESS, touched_by={PublicIp: None})
def addresses(session: Session, ids: Ids) -> Iterator[Worth]:
    """A public address, from when it is taken until it is free again."""
    for row in session.execute(
        select(
            PublicIp.id,
            PublicIp.address,
            PublicIp.account_id,
            PublicIp.zone_id,
            PublicIp.network_id,
            PublicIp.is_source_nat,
            PublicIp.is_system,
        ).where(_among(PublicIp.id, ids))
    ):
        details = {
            "name": row.address,
            "network_id": row.network_id,
            "source_nat": row.is_source_nat,
            "system": row.is_system,
        }
        yield Worth(UsageType.IP_ADDRESS, row.id, row.account_id, row.zone_id, details)


def _rules(session: Session, model: Any, ids: Ids, usage_type: UsageType) -> Iterator[Worth]:
    statement = (
        select(model.id, model.network_id, model.public_ip_id, Network.account_id, Network.zone_id)
        .join(Network, Network.id == model.network_id)
        .where(_among(model.id, ids))
    )
    for row in session.execute(statement):
        details = {"network_id": row.network_id, "public_ip_id": row.public_ip_id}
        yield Worth(usage_type, row.id, row.account_id, row.zone_id, details)


@meter(UsageType.PORT_FORWARDING_RULE, touched_by={PortForwardingRule: None})
def forwards(session: Session, ids: Ids) -> Iterator[Worth]:
    """A port forwarding rule."""
    return _rules(session, PortForwardingRule, ids, UsageType.PORT_FORWARDING_RULE)


@meter(UsageType.LOAD_BALANCER_POLICY, touched_by={LoadBalancer: None})
def balancers(session: Session, ids: Ids) -> Iterator[Worth]:
    """A load balancer rule."""
    return _rules(session, LoadBalancer, ids, UsageType.LOAD_BALANCER_POLICY)


@meter(UsageType.VPN_USERS, touched_by={VpnUser: None})
def vpn_users(session: Session, ids: Ids) -> Iterator[Worth]:
    """A VPN user, who is of no zone: all of the account's VPNs know it."""
    statement = select(VpnUser.id, VpnUser.name, VpnUser.account_id, VpnUser.state).where(_among(VpnUser.id, ids))
    for row in session.execute(statement):
        counts = row.state != vpnusers.REVOKED
        yield Worth(UsageType.VPN_USERS, row.id, row.account_id, "", {"name": row.name}, counts=counts)


@meter(
    UsageType.SECURITY_GROUP,
    touched_by={
        SecurityGroupMember: None,
        Vm: _ids_by(SecurityGroupMember.vm_id),
        SecurityGroup: _ids_by(SecurityGroupMember.group_id),
    },
)
def memberships(session: Session, ids: Ids) -> Iterator[Worth]:
    """A VM in a security group, for as long as the VM is allocated."""
    statement = (
        select(
            SecurityGroupMember.id,
            SecurityGroupMember.group_id,
            SecurityGroup.name,
            Vm.id.label("vm_id"),
            Vm.state,
            Vm.account_id,
            Vm.zone_id,
        )
        .join(Vm, Vm.id == SecurityGroupMember.vm_id)
        .join(SecurityGroup, SecurityGroup.id == SecurityGroupMember.group_id)
        .where(_among(SecurityGroupMember.id, ids), Vm.removed.is_(None))
    )
    for row in session.execute(statement):
        details = {"usage_id": row.group_id, "name": row.name, "vm_id": row.vm_id}
        counts = row.state not in _GONE
        yield Worth(UsageType.SECURITY_GROUP, row.id, row.account_id, row.zone_id, details, counts=counts)


@meter(UsageType.TEMPLATE, UsageType.ISO, touched_by={Template: None})
def templates(session: Session, ids: Ids) -> Iterator[Worth]:
    """Templates and ISOs that users brought, from when they are there; those of the system cost nobody anything."""
    statement = select(Template).where(
        _among(Template.id, ids), Template.removed.is_(None), Template.type == "USER", Template.zone_id.is_not(None)
    )
    for row in session.scalars(statement):
        kind = UsageType.ISO if row.format == "ISO" else UsageType.TEMPLATE
        details = {"name": row.name, "size": row.size, "virtual_size": row.size}
        yield Worth(kind, row.id, row.account_id, row.zone_id or "", details, counts=row.size > 0)


@meter(UsageType.VOLUME, touched_by={Volume: None})
def volumes(session: Session, ids: Ids) -> Iterator[Worth]:
    """A volume, of the size that it has, until it is deleted or destroyed."""
    for row in session.scalars(select(Volume).where(_among(Volume.id, ids), Volume.removed.is_(None))):
        details = {
            "name": row.name,
            "size": row.size,
            "offering_id": row.disk_offering_id,
            "template_id": row.template_id,
        }
        # without a size it is a guest's tree of files, or not there yet
        counts = row.size > 0 and row.state not in ("Destroy", "Expunging", "Expunged")
        yield Worth(UsageType.VOLUME, row.id, row.account_id, row.zone_id, details, counts=counts)


@meter(UsageType.SNAPSHOT, touched_by={Snapshot: None})
def snapshots(session: Session, ids: Ids) -> Iterator[Worth]:
    """A snapshot, of the bytes that it takes, from when it is there."""
    statement = select(Snapshot).where(
        _among(Snapshot.id, ids), Snapshot.removed.is_(None), Snapshot.state == "BackedUp"
    )
    for row in session.scalars(statement):
        details = {"name": row.name, "size": row.physical_size, "virtual_size": row.size}
        yield Worth(UsageType.SNAPSHOT, row.id, row.account_id, row.zone_id, details)
