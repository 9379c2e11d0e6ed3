"""NICs of virtual machines."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import joinedload

from controlplane.api import guests, listing, sharing
from controlplane.api.call import Call
from controlplane.api.command import Async, ListParams, Params, command, param
from controlplane.api.commands.deploy import parse_mac
from controlplane.api.targets import wake_network
from controlplane.api.views.nics import NicResponse, show_nics
from controlplane.api.views.vms import VirtualMachineResponse
from controlplane.compute import vms
from controlplane.convergence.desired import desire_network
from controlplane.errors import unknown_id
from controlplane.network import addressing, allocation
from controlplane.store.models import Network, Nic, Vm


class AddNic(Params):
    virtualmachineid: str = param("id of the VM", entity="UserVm")
    networkid: str = param("id of the network", entity="Network")
    ipaddress: str | None = param("address on the network, any free one unless given", default=None)
    macaddress: str | None = param("MAC address of the NIC", default=None)


class NicOfVm(Params):
    virtualmachineid: str = param("id of the VM", entity="UserVm")
    nicid: str = param("id of the NIC", entity="Nic")


class ListNics(ListParams):
    virtualmachineid: str = param("id of the VM", entity="UserVm")
    nicid: str | None = param("id of the NIC", default=None, entity="Nic")
    networkid: str | None = param("NICs on this network", default=None, entity="Network")


def _nic(vm: Vm, id: str) -> Nic:
    found = next((nic for nic in vm.nics if nic.id == id), None)
    if found is None:
        raise unknown_id("nicid", id)
    return found


@command(
    "addNicToVirtualMachine",
    description="Puts a VM on one more network",
    params=AddNic,
    response=VirtualMachineResponse,
    object_name="virtualmachine",
    is_async=True,
    event="NIC.CREATE",
)
def add_nic(call: Call, params: AddNic) -> Async:
    vm = guests.find(call, params.virtualmachineid, "virtualmachineid")
    network = sharing.find(call, params.networkid, "networkid")
    vms.need_state(vm, "Running", "Stopped", to="add a NIC to")
    nic = allocation.add_nic(
        call.session,
        vm_id=vm.id,
        network=vms.check_new_network(call.session, vm, network),
        device_id=max((nic.device_id for nic in vm.nics), default=-1) + 1,
        is_default=not vm.nics,
        address=addressing.parse_address("ipaddress", params.ipaddress) if params.ipaddress else None,
        mac=parse_mac(params.macaddress),
    )
    return guests.flow(call, vm, f"adding VM {vm.name} to network {network.name}", "add_nic", nic_id=nic.id)


@command(
    "removeNicFromVirtualMachine",
    description="Takes a VM off a network, which must not be its default one",
    params=NicOfVm,
    response=VirtualMachineResponse,
    object_name="virtualmachine",
    is_async=True,
    event="NIC.DELETE",
)
def remove_nic(call: Call, params: NicOfVm) -> Async:
    vm = guests.find(call, params.virtualmachineid, "virtualmachineid")
    nic = _nic(vm, params.nicid)
    vms.need_state(vm, "Running", "Stopped", to="remove a NIC of")
    vms.check_nic_removable(call.session, nic)
    return guests.flow(call, vm, f"removing VM {vm.name} from network {nic.network.name}", "remove_nic", nic_id=nic.id)


@command(
    "updateDefaultNicForVirtualMachine",
    description="Makes another NIC of a VM the one with its default route",
    params=NicOfVm,
    response=VirtualMachineResponse,
    object_name="virtualmachine",
    is_async=True,
    event="NIC.UPDATE",
)
def update_default_nic(call: Call, params: NicOfVm) -> Async:
    vm = guests.find(call, params.virtualmachineid, "virtualmachineid")
    nic = _nic(vm, params.nicid)
    vms.need_state(vm, "Running", "Stopped", to="change the default NIC of")
    old = next((other for other in vm.nics if other.is_default), None)
    vms.make_default(vm, nic)
    call.session.flush()
    call.after_commit(lambda: call.runtime.hurry("rates"))
    if old is not None:
        wake_network(call, old.network_id)
    return Async(
        "VirtualMachine",
        vm.id,
        f"making network {nic.network.name} the default one of VM {vm.name}",
        target=desire_network(call.session, nic.network_id),
        completion="vm.show",
        arguments={"vm_id": vm.id},
    )


@command(
    "listNics",
    description="Lists the NICs of a VM",
    params=ListNics,
    response=NicResponse,
    object_name="nic",
)
def list_nics(call: Call, params: ListNics) -> tuple[int, list[NicResponse]]:
    vm = call.lookup(Vm, params.virtualmachineid, "virtualmachineid")
    statement = (
        select(Nic)
        .where(Nic.vm_id == vm.id)
        .options(joinedload(Nic.network).joinedload(Network.offering))
        .order_by(Nic.device_id, Nic.id)
    )
    if params.nicid is not None:
        statement = statement.where(Nic.id == params.nicid)
    if params.networkid is not None:
        statement = statement.where(Nic.network_id == params.networkid)
    statement = listing.search(statement, params.keyword, Nic.address, Nic.mac)
    return listing.fetch(call, statement, params, lambda rows: list(show_nics(rows)))
