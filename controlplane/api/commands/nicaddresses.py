"""Addresses of NICs: secondary ones, and another primary one."""

from __future__ import annotations

from sqlalchemy.orm import Session

from controlplane import jobs
from controlplane.api import guests
from controlplane.api.call import Call
from controlplane.api.command import Async, Params, Response, Success, command, param, shown
from controlplane.api.views.vms import VirtualMachineResponse
from controlplane.compute import vms
from controlplane.errors import ParameterError, unknown_id
from controlplane.network import addressing, secondary
from controlplane.store.models import AsyncJob, Nic, NicSecondaryIp


class NicSecondaryIpResponse(Response):
    """A secondary address."""

    id: str = shown("id of the secondary address", ...)
    ipaddress: str = shown("the address", ...)
    networkid: str = shown("id of its network", ...)
    nicid: str = shown("id of the NIC", ...)
    virtualmachineid: str = shown("id of the VM", ...)


class AddIpToNic(Params):
    nicid: str = param("id of the NIC", entity="Nic")
    ipaddress: str | None = param("the address, any free one of the network unless given", default=None)


class RemoveIpFromNic(Params):
    id: str = param("id of the secondary address", entity="NicSecondaryIp")


class UpdateVmNicIp(Params):
    nicid: str = param("id of the NIC", entity="Nic")
    ipaddress: str | None = param("the new address, any free one of the network unless given", default=None)


def _find(call: Call, id: str) -> Nic:
    nic = call.lookup(Nic, id, "nicid")
    guests.find(call, nic.vm_id, "nicid")
    vms.check_joinable(nic.network)
    return nic


@command(
    "addIpToNic",
    description="Gives a NIC a secondary address, which the guest configures by itself",
    params=AddIpToNic,
    response=NicSecondaryIpResponse,
    response_key="addiptovmnicresponse",
    object_name="nicsecondaryip",
    is_async=True,
    creates=True,
    event="NIC.SECONDARY.IP.ASSIGN",
)
def add_ip_to_nic(call: Call, params: AddIpToNic) -> Async:
    nic = _find(call, params.nicid)
    wanted = addressing.parse_address("ipaddress", params.ipaddress) if params.ipaddress else None
    most = call.configuration.get_int(call.session, secondary.MOST)
    row = secondary.add(call.session, nic, wanted, most)
    return Async(
        "Nic",
        row.id,
        f"giving VM {nic.vm.name} the secondary address {row.address}",
        workflow="follow_nic",
        arguments={"nic_id": nic.id, "added": row.id},
        completion="secondaryip.show",
        completion_arguments={"id": row.id},
    )


@jobs.completion("secondaryip.show")
def _shown(session: Session, job: AsyncJob, *, id: str) -> Response:
    row = session.get_one(NicSecondaryIp, id)
    return NicSecondaryIpResponse(
        id=row.id,
        ipaddress=row.address,
        networkid=row.network_id,
        nicid=row.nic_id,
        virtualmachineid=session.get_one(Nic, row.nic_id).vm_id,
    )


@command(
    "removeIpFromNic",
    description="Takes a secondary address from a NIC; no rule may point to it",
    params=RemoveIpFromNic,
    is_async=True,
    event="NIC.SECONDARY.IP.UNASSIGN",
)
def remove_ip_from_nic(call: Call, params: RemoveIpFromNic) -> Async:
    row = call.session.get(NicSecondaryIp, params.id)
    if row is None:
        raise unknown_id("id", params.id)
    nic = _find(call, row.nic_id)
    secondary.remove(call.session, row)
    return Async(
        "Nic",
        nic.id,
        f"taking the secondary address {row.address} from VM {nic.vm.name}",
        workflow="follow_nic",
        arguments={"nic_id": nic.id},
        completion="nic.followed",
        completion_arguments={},
    )


@jobs.completion("nic.followed")
def _followed(session: Session, job: AsyncJob) -> Response:
    return Success()


@command(
    "updateVmNicIp",
    description="Gives a NIC of a stopped VM another primary address; rules that point to it follow",
    params=UpdateVmNicIp,
    response=VirtualMachineResponse,
    object_name="virtualmachine",
    is_async=True,
    event="NIC.UPDATE",
)
def update_vm_nic_ip(call: Call, params: UpdateVmNicIp) -> Async:
    nic = _find(call, params.nicid)
    vms.need_state(nic.vm, "Stopped", to="change an address of")
    before = nic.address
    secondary.move(
        call.session, nic, addressing.parse_address("ipaddress", params.ipaddress) if params.ipaddress else None
    )
    if before == nic.address and params.ipaddress is None:
        raise ParameterError("ipaddress: the network has no other free address")
    return Async(
        "VirtualMachine",
        nic.vm_id,
        f"changing the address {before} of VM {nic.vm.name} to {nic.address}",
        workflow="follow_nic",
        arguments={"nic_id": nic.id},
        completion="vm.show",
        completion_arguments={"vm_id": nic.vm_id},
    )
