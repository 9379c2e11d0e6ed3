"""Virtual machines: the rows of a new one, and what each state allows (guide: chapter 10)."""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import Any

from sqlalchemy import delete, func, or_, select, update
from sqlalchemy.orm import Session

from controlplane.errors import InUseError, ParameterError
from controlplane.network import access, addressing, allocation, tags
from controlplane.securitygroups import groups
from controlplane.storage import volumes
from controlplane.store.models import (
    Account,
    FirewallRule,
    LoadBalancerMember,
    Network,
    Nic,
    PortForwardingRule,
    PublicIp,
    SecurityGroup,
    ServiceOffering,
    Template,
    Vm,
    Zone,
    new_id,
    now,
)
from controlplane.templates import rows as templates


@dataclass(frozen=True)
class NicRequest:
    """A NIC that a VM is to have. Without ``address`` the lowest free one is taken."""

    network: Network
    address: IPv4Address | None = None
    mac: str | None = None


@dataclass(frozen=True)
class VmRequest:
    """A VM to be made, checked by ``create``. The first NIC is the default one."""

    zone: Zone
    account: Account
    template: Template
    service_offering: ServiceOffering
    nics: list[NicRequest]
    name: str | None = None
    display_name: str | None = None
    group: str | None = None
    #: base64, checked
    user_data: str | None = None
    ssh_keypair: str | None = None
    public_key: str | None = None
    start: bool = True
    display: bool = True
    details: dict[str, Any] = field(default_factory=dict)
    #: None for the account's default one, where a network has security groups
    security_groups: list[SecurityGroup] | None = None
    #: bytes; its template's when these are more
    root_size: int = 0


def create(session: Session, request: VmRequest) -> Vm:
    """The rows of a new VM, with its addresses: state Starting, or Stopped when it is not to be started.

    Raises ParameterError for what does not fit, InUseError and CapacityError for addresses.
    """
    if request.zone.allocation_state != "Enabled":
        raise ParameterError(f"zone {request.zone.name} is disabled")
    templates.check_deployable(session, request.template, request.zone)
    if request.service_offering.is_system:
        raise ParameterError(f"serviceofferingid: {request.service_offering.name} is for system VMs")
    if not request.nics:
        raise ParameterError("networkids: a VM needs at least one network")
    vm_id = new_id()
    name = addressing.check_hostname("name", request.name) if request.name else f"VM-{vm_id}"
    for wanted in request.nics:
        _check_network(session, request.zone.id, request.account, wanted.network)
        check_name_free(session, name, wanted.network)
    if len({wanted.network.id for wanted in request.nics}) < len(request.nics):
        raise ParameterError("networkids: a network is given twice")
    vm = Vm(
        id=vm_id,
        name=name,
        display_name=request.display_name or name,
        group=request.group,
        zone_id=request.zone.id,
        account_id=request.account.id,
        template_id=request.template.id,
        service_offering_id=request.service_offering.id,
        state="Starting" if request.start else "Stopped",
        user_data=request.user_data,
        ssh_keypair=request.ssh_keypair,
        public_key=request.public_key,
        display_vm=request.display,
        details=request.details,
    )
    session.add(vm)
    session.flush()
    for index, wanted in enumerate(request.nics):
        allocation.add_nic(
            session,
            vm_id=vm.id,
            network=wanted.network,
            device_id=index,
            is_default=index == 0,
            address=wanted.address,
            mac=wanted.mac,
        )
    session.refresh(vm, ["nics"])
    groups.assign(session, vm, request.security_groups)
    volumes.create_root(session, vm, request.root_size)
    return vm


def _check_network(session: Session, zone_id: str, account: Account, network: Network) -> None:
    """ParameterError or PermissionDeniedError unless a VM of that account and zone can be on ``network``."""
    if network.zone_id != zone_id:
        raise ParameterError(f"network {network.name} is in another zone than the VM")
    access.check(session, network, account)
    check_joinable(network)


def check_new_network(session: Session, vm: Vm, network: Network) -> Network:
    """ParameterError unless a VM can be put on one more network; returns the network."""
    _check_network(session, vm.zone_id, vm.account, network)
    if any(nic.network_id == network.id for nic in vm.nics):
        raise ParameterError(f"VM {vm.name} is on network {network.name} already")
    check_name_free(session, vm.name, network, besides=vm.id)
    return network


def check_joinable(network: Network) -> None:
    """ParameterError when the network is going away."""
    if network.removed is not None or network.state == "Destroy":
        raise ParameterError(f"network {network.name} is being deleted")


def check_name_free(session: Session, name: str, network: Network, *, besides: str | None = None) -> None:
    """ParameterError when another VM on the network has the host name (any case), for DNS could not tell them apart."""
    # the lock makes the check and the insertion that follows one step
    session.refresh(network, with_for_update=True)
    statement = (
        select(Vm.id)
        .join(Nic, Nic.vm_id == Vm.id)
        .where(Nic.network_id == network.id, func.lower(Vm.name) == name.lower(), Vm.removed.is_(None))
    )
    others = [row for row in session.execute(statement).scalars() if row != besides]
    if others:
        raise ParameterError(
            f"The vm with hostName {name} already exists in the network domain: {network.network_domain}; "
            f"network={network.name}"
        )


def need_state(vm: Vm, *states: str, to: str) -> None:
    """ParameterError unless the VM is in one of ``states``; ``to`` says what was wanted, e.g. ``start``."""
    if vm.state not in states:
        raise ParameterError(
            f"Unable to {to} virtual machine {vm.name}: it is {vm.state}, which must be {' or '.join(states)}"
        )


def rename(session: Session, vm: Vm, name: str) -> None:
    """Give a stopped VM another host name; the guest learns it with its next lease."""
    need_state(vm, "Stopped", to="rename")
    addressing.check_hostname("name", name)
    for nic in vm.nics:
        check_name_free(session, name, nic.network, besides=vm.id)
    vm.name = name
    session.flush()


def expunge(session: Session, vm: Vm) -> list[str]:
    """Free what a VM had: rules that point to it, static NAT, NICs with their addresses, its root volume, tags.

    Returns its networks. The caller asks their routers for a new state (``desired.desire_network``) in the same
    transaction. Doing so twice does nothing.
    """
    nics = list(session.execute(select(Nic).where(Nic.vm_id == vm.id)).scalars())
    networks = [nic.network_id for nic in nics]
    for nic in nics:
        remove_nic(session, nic)
    groups.leave(session, vm)
    volumes.leave(session, vm)
    tags.forget(session, "UserVm", select(Vm.id).where(Vm.id == vm.id))
    vm.state, vm.removed = "Expunging", vm.removed or now()
    vm.password_id = vm.password = None
    session.flush()
    session.expire(vm, ["nics"])
    return networks


def remove_nic(session: Session, nic: Nic) -> None:
    """Free a NIC's address, with the rules and static NAT that point to it."""
    forwards = select(PortForwardingRule.id).where(PortForwardingRule.nic_id == nic.id)
    static = select(PublicIp.id).where(PublicIp.static_nat_nic_id == nic.id)
    # rules opened for a static NAT address would open the next guest's ports
    gone = or_(FirewallRule.port_forwarding_rule_id.in_(forwards), FirewallRule.public_ip_id.in_(static))
    tags.forget(session, "FirewallRule", select(FirewallRule.id).where(gone))
    tags.forget(session, "PortForwardingRule", forwards)
    session.execute(delete(FirewallRule).where(gone), execution_options={"synchronize_session": False})
    session.execute(delete(PortForwardingRule).where(PortForwardingRule.nic_id == nic.id))
    session.execute(delete(LoadBalancerMember).where(LoadBalancerMember.nic_id == nic.id))
    session.execute(
        update(PublicIp)
        .where(PublicIp.static_nat_nic_id == nic.id)
        .values(static_nat_nic_id=None, static_nat_address=None)
    )
    session.delete(nic)
    session.flush()


def check_nic_removable(session: Session, nic: Nic) -> None:
    """ParameterError for the default NIC, InUseError while rules point to it."""
    if nic.is_default:
        raise ParameterError("Unable to remove the default NIC; make another one the default first")
    if session.execute(select(PublicIp.id).where(PublicIp.static_nat_nic_id == nic.id)).first():
        raise InUseError("the NIC has static NAT; disable it first")
    if session.execute(select(PortForwardingRule.id).where(PortForwardingRule.nic_id == nic.id).limit(1)).first():
        raise InUseError("port forwarding rules point to the NIC; delete them first")
    if session.execute(select(LoadBalancerMember.id).where(LoadBalancerMember.nic_id == nic.id).limit(1)).first():
        raise InUseError("load balancer rules point to the NIC; remove the VM from them first")


def make_default(vm: Vm, nic: Nic) -> None:
    """Make ``nic`` the one that carries the guest's default route. ParameterError when it is already."""
    if nic.is_default:
        raise ParameterError("the NIC is the default one already")
    for other in vm.nics:
        other.is_default = other.id == nic.id
