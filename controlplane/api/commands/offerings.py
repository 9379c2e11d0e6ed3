"""Service offerings: sizes of machines."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import select

from controlplane.api import listing, offerings
from controlplane.api.call import Call
from controlplane.api.command import ROOT, ListParams, Params, Response, Success, command, param, shown
from controlplane.errors import ParameterError, PermissionDeniedError
from controlplane.store.models import ServiceOffering, Vm, now

#: what a system VM may be
SYSTEM_VM_TYPES = ("domainrouter", "consoleproxy", "secondarystoragevm")


class ServiceOfferingResponse(Response):
    id: str = shown("the id of the service offering", ...)
    name: str = shown("the name of the service offering", ...)
    displaytext: str = shown("an alternate display text of the service offering.", ...)
    cpunumber: int = shown("the number of CPU", ...)
    cpuspeed: int = shown("the clock rate CPU speed in Mhz", ...)
    memory: int = shown("the memory in MB", ...)
    networkrate: int | None = shown("data transfer rate in megabits per second allowed.")
    issystem: bool = shown("is this a system vm offering", ...)
    systemvmtype: str | None = shown("is this a the systemvm type for system vm offering")
    defaultuse: bool = shown("is this a  default system vm offering", ...)
    iscustomized: bool = shown("true if the offering's size is chosen on deployment", False)
    offerha: bool = shown("the ha support in the service offering", ...)
    limitcpuuse: bool = shown("restrict the CPU usage to committed service offering", False)
    isvolatile: bool = shown("true if the vm needs to be volatile", False)
    storagetype: str = shown("the storage type for this service offering", "local")
    storagetags: str | None = shown("the tags for the service offering")
    hosttags: str | None = shown("the host tag for the service offering")
    state: str = shown("state of the service offering", "Active")
    created: datetime = shown("the date this service offering was created", ...)


def _service(row: ServiceOffering) -> ServiceOfferingResponse:
    return ServiceOfferingResponse(
        id=row.id,
        name=row.name,
        displaytext=row.display_text,
        cpunumber=row.cpu_number,
        cpuspeed=row.cpu_speed,
        memory=row.memory,
        networkrate=row.network_rate,
        issystem=row.is_system,
        systemvmtype=row.system_vm_type,
        defaultuse=row.is_default,
        offerha=row.offer_ha,
        storagetags=row.tags,
        hosttags=row.host_tags,
        created=row.created,
    )


class ListServiceOfferings(ListParams):
    id: str | None = param("ID of the service offering", default=None, entity="ServiceOffering")
    name: str | None = param("name of the service offering", default=None)
    issystem: bool = param("is this a system vm offering", default=False)
    systemvmtype: str | None = param("the system VM type", default=None, choices=SYSTEM_VM_TYPES)
    virtualmachineid: str | None = param(
        "the ID of the virtual machine. Pass this in if you want to see the available service offering that a virtual "
        "machine can be changed to.",
        default=None,
        entity="VirtualMachine",
    )


@command(
    "listServiceOfferings",
    description="Lists all available service offerings.",
    params=ListServiceOfferings,
    response=ServiceOfferingResponse,
    object_name="serviceoffering",
)
def list_service_offerings(call: Call, params: ListServiceOfferings) -> tuple[int, list[ServiceOfferingResponse]]:
    if params.issystem and not call.is_root:
        raise PermissionDeniedError("Only root administrators can see system offerings")
    statement = select(ServiceOffering).where(ServiceOffering.removed.is_(None))
    statement = statement.where(ServiceOffering.is_system == params.issystem)
    statement = offerings.choose(call, statement, ServiceOffering, params)
    if params.systemvmtype is not None:
        statement = statement.where(ServiceOffering.system_vm_type == params.systemvmtype)
    if params.virtualmachineid is not None:
        vm = call.lookup(Vm, params.virtualmachineid, "virtualmachineid")
        statement = statement.where(ServiceOffering.id != vm.service_offering_id)
    statement = statement.order_by(ServiceOffering.created, ServiceOffering.id)
    return listing.fetch(call, statement, params, lambda rows: [_service(row) for row in rows])


class CreateServiceOffering(Params):
    name: str = param("the name of the service offering")
    displaytext: str | None = param(
        "the display text of the service offering; its name by default", default=None, length=4096
    )
    cpunumber: int = param("the CPU number of the service offering", minimum=1, maximum=1024)
    cpuspeed: int = param("the CPU speed of the service offering in MHz.", default=1000, minimum=1, maximum=1_000_000)
    memory: int = param("the total memory of the service offering in MB", minimum=32, maximum=16 * 1024 * 1024)
    networkrate: int | None = param(
        "data transfer rate in megabits per second allowed, 0 for no limit", default=None, minimum=0
    )
    offerha: bool = param("the HA for the service offering", default=False)
    hosttags: str | None = param("the host tag for this service offering.", default=None)
    tags: str | None = param("the tags for this service offering.", default=None)
    issystem: bool = param("is this a system vm offering", default=False)
    systemvmtype: str | None = param("the system VM type", default=None, choices=SYSTEM_VM_TYPES)


@command(
    "createServiceOffering",
    description="Creates a service offering.",
    params=CreateServiceOffering,
    response=ServiceOfferingResponse,
    object_name="serviceoffering",
    roles=ROOT,
    event="SERVICE.OFFERING.CREATE",
)
def create_service_offering(call: Call, params: CreateServiceOffering) -> ServiceOfferingResponse:
    if params.issystem != (params.systemvmtype is not None):
        raise ParameterError("issystem and systemvmtype go together")
    row = ServiceOffering(
        name=params.name,
        display_text=params.displaytext or params.name,
        cpu_number=params.cpunumber,
        cpu_speed=params.cpuspeed,
        memory=params.memory,
        network_rate=params.networkrate,
        is_system=params.issystem,
        system_vm_type=params.systemvmtype,
        offer_ha=params.offerha,
        host_tags=params.hosttags,
        tags=params.tags,
    )
    offerings.add(call, row, "Successfully created service offering")
    return _service(row)


class UpdateServiceOffering(Params):
    id: str = param("the ID of the service offering to be updated", entity="ServiceOffering")
    name: str | None = param("the name of the service offering to be updated", default=None)
    displaytext: str | None = param("the display text of the service offering to be updated", default=None, length=4096)


@command(
    "updateServiceOffering",
    description="Updates a service offering.",
    params=UpdateServiceOffering,
    response=ServiceOfferingResponse,
    object_name="serviceoffering",
    roles=ROOT,
    event="SERVICE.OFFERING.EDIT",
)
def update_service_offering(call: Call, params: UpdateServiceOffering) -> ServiceOfferingResponse:
    row = call.lookup(ServiceOffering, params.id)
    offerings.rename(call, row, params, "Successfully updated service offering")
    return _service(row)


class DeleteServiceOffering(Params):
    id: str = param("the ID of the service offering", entity="ServiceOffering")


@command(
    "deleteServiceOffering",
    description="Deletes a service offering; machines that have it keep it",
    params=DeleteServiceOffering,
    roles=ROOT,
    event="SERVICE.OFFERING.DELETE",
)
def delete_service_offering(call: Call, params: DeleteServiceOffering) -> Success:
    row = call.lookup(ServiceOffering, params.id)
    if row.is_default and row.is_system:
        raise ParameterError(f"{row.name} is the default of system VMs and stays")
    row.removed = now()
    call.event(f"Successfully deleted service offering {row.name}", ("ServiceOffering", row.id))
    return Success()
