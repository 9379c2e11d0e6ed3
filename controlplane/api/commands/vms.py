"""Virtual machines: the list, power, destruction and what can be changed."""

from __future__ import annotations

from sqlalchemy import func, select

from controlplane.api import guests, listing, securitygroups, tagging
from controlplane.api.call import Call
from controlplane.api.command import ADMINS, Async, Response, ScopedListParams, command, param
from controlplane.api.guests import VmId
from controlplane.api.tagging import TagEntry
from controlplane.api.targets import wake_hosts, wake_network
from controlplane.api.views.vms import VirtualMachineResponse, show_vms
from controlplane.compute import userdata, vms
from controlplane.errors import PermissionDeniedError
from controlplane.network import limits
from controlplane.securitygroups import groups
from controlplane.storage import volumes
from controlplane.store.models import Cluster, Host, Nic, PublicIp, SecurityGroupMember, Template, Vm


class ListVirtualMachines(ScopedListParams):
    id: str | None = param("id of the VM", default=None, entity="UserVm")
    ids: list[str] | None = param("ids of VMs", default=None)
    name: str | None = param("VMs whose name or display name contains this", default=None)
    state: str | None = param(
        "Running, Stopped, Present (not destroyed), Destroyed, Starting, Stopping, Error", default=None
    )
    zoneid: str | None = param("VMs of this zone", default=None, entity="Zone")
    podid: str | None = param("VMs on hosts of this pod", default=None, entity="Pod")
    clusterid: str | None = param("VMs on hosts of this cluster", default=None, entity="Cluster")
    hostid: str | None = param("VMs on this host", default=None, entity="Host")
    networkid: str | None = param("VMs on this network", default=None, entity="Network")
    vpcid: str | None = param("VMs in this VPC", default=None, entity="Vpc")
    templateid: str | None = param("VMs of this template", default=None, entity="Template")
    serviceofferingid: str | None = param("VMs of this offering", default=None, entity="ServiceOffering")
    hypervisor: str | None = param("VMs on this hypervisor", default=None)
    keypair: str | None = param("VMs with this SSH key pair", default=None)
    ipaddress: str | None = param("VMs with this address, their own or static NAT", default=None)
    securitygroupid: str | None = param("VMs in this security group", default=None, entity="SecurityGroup")
    groupid: str | None = param("VMs of this group", default=None)
    haenable: bool | None = param("VMs with or without high availability", default=None)
    displayvm: bool | None = param("VMs that are, or are not, shown to their owners", default=None)
    forvirtualnetwork: bool | None = param("VMs on networks behind routers, which all are", default=None)
    details: list[str] | None = param("accepted for clients that send it; everything is shown", default=None)
    userdata: bool = param("show user data too", default=False)
    tags: list[TagEntry] | None = param("VMs with all of these tags", default=None)


@command(
    "listVirtualMachines",
    description="Lists virtual machines",
    params=ListVirtualMachines,
    response=VirtualMachineResponse,
    object_name="virtualmachine",
)
def list_virtual_machines(call: Call, params: ListVirtualMachines) -> tuple[int, list[VirtualMachineResponse]]:
    if params.vpcid is not None or params.forvirtualnetwork is False:
        return 0, []
    statement = select(Vm).where(Vm.removed.is_(None)).order_by(Vm.created, Vm.id)
    by_id = params.id is not None or params.ids is not None
    statement = listing.scope(call, statement, Vm.account_id, params, by_id=by_id)
    for column, value in (
        (Vm.id, params.id),
        (Vm.zone_id, params.zoneid),
        (Vm.host_id, params.hostid),
        (Vm.template_id, params.templateid),
        (Vm.service_offering_id, params.serviceofferingid),
        (Vm.group, params.groupid),
        (Vm.ha_enable, params.haenable),
        (Vm.display_vm, params.displayvm),
    ):
        if value is not None:
            statement = statement.where(column == value)
    if params.ids is not None:
        statement = statement.where(Vm.id.in_(params.ids))
    if params.state is not None:
        present = params.state.lower() == "present"
        statement = statement.where(
            Vm.state.not_in(("Destroyed", "Expunging")) if present else func.lower(Vm.state) == params.state.lower()
        )
    if not _sees_destroyed(call):
        statement = statement.where(Vm.state.not_in(("Destroyed", "Expunging")))
    if params.securitygroupid is not None:
        members = select(SecurityGroupMember.vm_id).where(SecurityGroupMember.group_id == params.securitygroupid)
        statement = statement.where(Vm.id.in_(members))
    if params.networkid is not None:
        statement = statement.where(Vm.id.in_(select(Nic.vm_id).where(Nic.network_id == params.networkid)))
    if params.ipaddress is not None:
        static = select(PublicIp.static_nat_nic_id).where(
            PublicIp.address == params.ipaddress, PublicIp.static_nat_nic_id.is_not(None)
        )
        has = select(Nic.vm_id).where((Nic.address == params.ipaddress) | Nic.id.in_(static))
        statement = statement.where(Vm.id.in_(has))
    if params.keypair is not None:
        # several pairs are kept comma-joined
        joined = "," + func.coalesce(Vm.ssh_keypair, "") + ","
        statement = statement.where(joined.contains(f",{params.keypair},", autoescape=True))
    if params.hypervisor is not None:
        templates = select(Template.id).where(func.lower(Template.hypervisor) == params.hypervisor.lower())
        statement = statement.where(Vm.template_id.in_(templates))
    if params.clusterid is not None or params.podid is not None:
        hosts = select(Host.id).join(Cluster, Cluster.id == Host.cluster_id)
        hosts = hosts.where(Cluster.id == params.clusterid) if params.clusterid is not None else hosts
        hosts = hosts.where(Cluster.pod_id == params.podid) if params.podid is not None else hosts
        statement = statement.where(Vm.host_id.in_(hosts))
    statement = tagging.with_tags(statement, "UserVm", Vm.id, params.tags)
    statement = listing.search(statement, params.name, Vm.name, Vm.display_name)
    statement = listing.search(statement, params.keyword, Vm.name, Vm.display_name, Vm.state)

    def show(rows: list[Vm]) -> list[VirtualMachineResponse]:
        return show_vms(call.session, rows, for_root=call.is_root, with_user_data=params.userdata)

    return listing.fetch(call, statement, params, show)


def _sees_destroyed(call: Call) -> bool:
    return call.account.type in ADMINS or call.configuration.get_bool(
        call.session, "allow.user.view.destroyed.vm", account=call.account.id
    )


class StopVirtualMachine(VmId):
    forced: bool = param("stop it at once, without asking its system", default=False)


class DestroyVirtualMachine(VmId):
    expunge: bool = param("free at once what it has", default=False)


class UpdateVirtualMachine(VmId):
    displayname: str | None = param("new name for people", default=None)
    name: str | None = param("new host name; the VM must be stopped", default=None)
    group: str | None = param("new group; empty for none", default=None, clears=True)
    haenable: bool | None = param("start it again when its host fails", default=None)
    displayvm: bool | None = param("show it to its owner", default=None)
    userdata: str | None = param(
        "new user data in base64; empty takes it away", default=None, length=2 * 1024 * 1024, clears=True
    )
    details: dict[str, str] | None = param("new free key-value pairs", default=None)
    securitygroupids: list[str] | None = param("ids of the security groups it is in from now on", default=None)
    securitygroupnames: list[str] | None = param("names of security groups, in place of their ids", default=None)
    cleanupdetails: bool = param("drop all details", default=False)


@command(
    "startVirtualMachine",
    description="Starts a VM",
    params=VmId,
    response=VirtualMachineResponse,
    object_name="virtualmachine",
    is_async=True,
    event="VM.START",
)
def start_virtual_machine(call: Call, params: VmId) -> Async:
    vm = guests.find(call, params.id)
    vms.need_state(vm, "Stopped", to="start")
    for nic in vm.nics:
        vms.check_joinable(nic.network)
    vm.state = "Starting"
    return guests.flow(call, vm, f"starting VM {vm.name}", "start_vm")


@command(
    "stopVirtualMachine",
    description="Stops a VM",
    params=StopVirtualMachine,
    response=VirtualMachineResponse,
    object_name="virtualmachine",
    is_async=True,
    event="VM.STOP",
)
def stop_virtual_machine(call: Call, params: StopVirtualMachine) -> Async:
    vm = guests.find(call, params.id)
    # stopping twice does nothing the second time
    vms.need_state(vm, "Running", "Stopping", "Stopped", to="stop")
    if vm.state == "Running":
        vm.state = "Stopping"
    return guests.flow(call, vm, f"stopping VM {vm.name}", "stop_vm", forced=params.forced)


@command(
    "rebootVirtualMachine",
    description="Stops a VM and starts it again",
    params=StopVirtualMachine,
    response=VirtualMachineResponse,
    object_name="virtualmachine",
    is_async=True,
    event="VM.REBOOT",
)
def reboot_virtual_machine(call: Call, params: StopVirtualMachine) -> Async:
    vm = guests.find(call, params.id)
    vms.need_state(vm, "Running", to="reboot")
    # it cannot be stopped or destroyed before it is up again
    vm.state = "Starting"
    return guests.flow(call, vm, f"rebooting VM {vm.name}", "reboot_vm", forced=params.forced)


@command(
    "destroyVirtualMachine",
    description="Stops a VM for good; it keeps its addresses until it is expunged, and can be recovered until then",
    params=DestroyVirtualMachine,
    response=VirtualMachineResponse,
    object_name="virtualmachine",
    is_async=True,
    event="VM.DESTROY",
)
def destroy_virtual_machine(call: Call, params: DestroyVirtualMachine) -> Async:
    vm = guests.find(call, params.id)
    if params.expunge:
        _check_may_expunge(call)
    vms.need_state(vm, "Running", "Stopped", "Destroyed", "Error", to="destroy")
    if vm.state in ("Running", "Stopped"):
        # it cannot be started any more
        vm.state = "Stopping"
    return guests.flow(call, vm, f"destroying VM {vm.name}", "destroy_vm", expunge=params.expunge)


@command(
    "expungeVirtualMachine",
    description="Frees what a destroyed VM has",
    params=VmId,
    is_async=True,
    event="VM.EXPUNGE",
)
def expunge_virtual_machine(call: Call, params: VmId) -> Async:
    vm = call.lookup(Vm, params.id)
    _check_may_expunge(call)
    # Expunging: again, when it failed before
    vms.need_state(vm, "Destroyed", "Error", "Expunging", to="expunge")
    return Async(
        "VirtualMachine",
        vm.id,
        f"expunging VM {vm.name}",
        workflow="destroy_vm",
        arguments={"vm_id": vm.id, "expunge": True},
    )


@command(
    "recoverVirtualMachine",
    description="Makes a destroyed VM a stopped one again",
    params=VmId,
    response=VirtualMachineResponse,
    object_name="virtualmachine",
    event="VM.RECOVER",
)
def recover_virtual_machine(call: Call, params: VmId) -> Response:
    vm = guests.find(call, params.id)
    _check_may_expunge(call)
    vms.need_state(vm, "Destroyed", to="recover")
    call.check_limit(vm.account, limits.VMS, limits.used(call.session, vm.account, limits.VMS))
    vm.state = "Stopped"
    volumes.recover_root(call.session, vm.id)
    call.event(f"recovered VM {vm.name}", ("VirtualMachine", vm.id), account_id=vm.account_id)
    return show_vms(call.session, [vm], for_root=call.is_root)[0]


def _check_may_expunge(call: Call) -> None:
    allowed = call.configuration.get_bool(call.session, "allow.user.expunge.recover.vm", account=call.account.id)
    if call.account.type not in ADMINS and not allowed:
        raise PermissionDeniedError(
            "only administrators may expunge or recover a VM, unless allow.user.expunge.recover.vm is set"
        )


@command(
    "updateVirtualMachine",
    description="Changes a VM's names, group, user data or details",
    params=UpdateVirtualMachine,
    response=VirtualMachineResponse,
    object_name="virtualmachine",
    event="VM.UPDATE",
)
def update_virtual_machine(call: Call, params: UpdateVirtualMachine) -> Response:
    vm = guests.find(call, params.id)
    told = False
    if params.name is not None and params.name != vm.name:
        vms.rename(call.session, vm, params.name)
        told = True
    if params.userdata is not None:
        limit = call.configuration.get_int(call.session, "vm.userdata.max.length")
        vm.user_data = userdata.check(params.userdata, limit)
        told = True
    if params.displayname:
        vm.display_name = params.displayname
    if params.group is not None:
        vm.group = params.group or None
    if params.haenable is not None:
        vm.ha_enable = params.haenable
    if params.displayvm is not None:
        vm.display_vm = params.displayvm
    if params.cleanupdetails:
        vm.details = {}
    elif params.details is not None:
        vm.details = dict(params.details)
    chosen = securitygroups.wanted(call, vm.account, params.securitygroupids, params.securitygroupnames)
    if chosen is not None:
        groups.assign(call.session, vm, chosen)
        wake_hosts(call)
    call.session.flush()
    call.event(f"updated VM {vm.name}", ("VirtualMachine", vm.id), account_id=vm.account_id)
    if told:
        for nic in vm.nics:
            wake_network(call, nic.network_id, settle=True)
    return show_vms(call.session, [vm], for_root=call.is_root)[0]
