"""Another service offering for a VM (guide: chapter 10.8)."""

from __future__ import annotations

from controlplane.api import guests
from controlplane.api.call import Call
from controlplane.api.command import Async, Response, command, param
from controlplane.api.guests import VmId
from controlplane.api.views.vms import VirtualMachineResponse, show_vms
from controlplane.compute import vms
from controlplane.errors import ParameterError
from controlplane.store.models import ServiceOffering, Vm


class ChangeService(VmId):
    serviceofferingid: str = param("id of the service offering that it is to have", entity="ServiceOffering")


@command(
    "changeServiceForVirtualMachine",
    description="Gives a stopped VM another service offering",
    params=ChangeService,
    response=VirtualMachineResponse,
    object_name="virtualmachine",
    event="VM.UPGRADE",
)
def change_service(call: Call, params: ChangeService) -> Response:
    vm = guests.find(call, params.id)
    vms.need_state(vm, "Stopped", to="change the service offering of")
    _change(call, vm, params.serviceofferingid)
    call.event(f"changed the service offering of VM {vm.name}", ("VirtualMachine", vm.id), account_id=vm.account_id)
    return show_vms(call.session, [vm], for_root=call.is_root)[0]


@command(
    "scaleVirtualMachine",
    description="Gives a VM another service offering; a running one follows its network rate at once",
    params=ChangeService,
    is_async=True,
    event="VM.UPGRADE",
)
def scale_virtual_machine(call: Call, params: ChangeService) -> Async:
    vm = guests.find(call, params.id)
    vms.need_state(vm, "Running", "Stopped", to="scale")
    old = vm.service_offering
    new = _change(call, vm, params.serviceofferingid)
    if vm.state == "Running" and (new.cpu_number, new.memory) != (old.cpu_number, old.memory):
        raise ParameterError(
            f"serviceofferingid: {new.name} has other processors or memory than {old.name}, which a running VM cannot "
            f"change to; stop VM {vm.name} first"
        )
    call.after_commit(lambda: call.runtime.hurry("rates"))
    return Async("VirtualMachine", vm.id, f"scaling VM {vm.name} to service offering {new.name}")


def _change(call: Call, vm: Vm, offering_id: str) -> ServiceOffering:
    offering = call.lookup(ServiceOffering, offering_id, "serviceofferingid")
    if offering.is_system:
        raise ParameterError(f"serviceofferingid: {offering.name} is for system VMs")
    vm.service_offering_id = offering.id
    call.session.flush()
    call.session.expire(vm, ["service_offering"])
    return offering
