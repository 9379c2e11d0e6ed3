"""System VMs, for administrators (guide: chapter 16)."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from controlplane import jobs
from controlplane.api import listing
from controlplane.api.call import Call
from controlplane.api.command import ROOT, Async, ListParams, Params, Response, command, param
from controlplane.api.views.systemvms import SystemVmResponse, show_system_vms
from controlplane.errors import ParameterError, unknown_id
from controlplane.store.models import Appliance, AsyncJob, Cluster, Host, ServiceOffering
from controlplane.systemvms.rows import KINDS


class ListSystemVms(ListParams):
    id: str | None = param("id of the system VM", default=None, entity="SystemVm")
    name: str | None = param("name of the system VM", default=None)
    state: str | None = param("state of the system VM", default=None)
    systemvmtype: str | None = param(
        "what the system VM is for", default=None, choices=("consoleproxy", "secondarystoragevm")
    )
    zoneid: str | None = param("system VMs of this zone", default=None, entity="Zone")
    podid: str | None = param("system VMs on hosts of this pod", default=None, entity="Pod")
    hostid: str | None = param("system VMs on this host", default=None, entity="Host")


class SystemVmId(Params):
    id: str = param("id of the system VM", entity="SystemVm")


class StopSystemVm(SystemVmId):
    forced: bool = param("stop it at once", default=False)


class ChangeService(SystemVmId):
    serviceofferingid: str = param("id of the system offering to use", entity="ServiceOffering")


def _find(call: Call, id: str) -> Appliance:
    row = call.session.get(Appliance, id)
    if row is None or row.removed is not None or row.role not in KINDS:
        raise unknown_id("id", id)
    return row


def _need_state(row: Appliance, *states: str, to: str) -> None:
    if row.state not in states:
        raise ParameterError(f"Unable to {to} system VM {row.name}: it is {row.state}, not {' or '.join(states)}")


def _answer(row: Appliance, doing: str, verb: str, workflow: str, **arguments: object) -> Async:
    return Async(
        "SystemVm",
        row.id,
        f"{doing} system VM {row.name}",
        workflow=workflow,
        arguments={"appliance_id": row.id, **arguments},
        completion="systemvm.show",
        completion_arguments={"appliance_id": row.id},
        event=f"{KINDS[row.role].events}.{verb}",
    )


@jobs.completion("systemvm.show")
def _shown(session: Session, job: AsyncJob, *, appliance_id: str) -> Response:
    row = session.get_one(Appliance, appliance_id)
    session.refresh(row)
    return show_system_vms(session, [row])[0]


@command(
    "startSystemVm",
    description="Starts a system VM",
    params=SystemVmId,
    response=SystemVmResponse,
    object_name="systemvm",
    roles=ROOT,
    is_async=True,
    event="SYSTEMVM.START",
)
def start_system_vm(call: Call, params: SystemVmId) -> Async:
    row = _find(call, params.id)
    _need_state(row, "Stopped", "Error", "Running", to="start")
    return _answer(row, "starting", "START", "start_system_vm")


@command(
    "stopSystemVm",
    description="Stops a system VM until it is started",
    params=StopSystemVm,
    response=SystemVmResponse,
    object_name="systemvm",
    roles=ROOT,
    is_async=True,
    event="SYSTEMVM.STOP",
)
def stop_system_vm(call: Call, params: StopSystemVm) -> Async:
    row = _find(call, params.id)
    _need_state(row, "Running", "Stopped", "Error", to="stop")
    return _answer(row, "stopping", "STOP", "stop_system_vm", forced=params.forced)


@command(
    "rebootSystemVm",
    description="Stops a system VM and starts it; what it served comes back with it",
    params=StopSystemVm,
    response=SystemVmResponse,
    object_name="systemvm",
    roles=ROOT,
    is_async=True,
    event="SYSTEMVM.REBOOT",
)
def reboot_system_vm(call: Call, params: StopSystemVm) -> Async:
    row = _find(call, params.id)
    _need_state(row, "Running", to="reboot")
    return _answer(row, "rebooting", "REBOOT", "reboot_system_vm", forced=params.forced)


@command(
    "destroySystemVm",
    description="Removes a system VM; another one is built in its place",
    params=SystemVmId,
    response=SystemVmResponse,
    object_name="systemvm",
    roles=ROOT,
    is_async=True,
    event="SYSTEMVM.DESTROY",
)
def destroy_system_vm(call: Call, params: SystemVmId) -> Async:
    row = _find(call, params.id)
    _need_state(row, "Running", "Stopped", "Error", to="destroy")
    return _answer(row, "destroying", "DESTROY", "destroy_system_vm")


def _change(call: Call, params: ChangeService) -> Appliance:
    row = _find(call, params.id)
    _need_state(row, "Stopped", "Running", to="scale")
    offering = call.lookup(ServiceOffering, params.serviceofferingid, "serviceofferingid")
    if not offering.is_system or offering.system_vm_type != KINDS[row.role].type:
        raise ParameterError(
            f"serviceofferingid: offering {offering.name} is not one for system VMs of type {KINDS[row.role].type}"
        )
    row.service_offering_id = offering.id
    return row


@command(
    "changeServiceForSystemVm",
    description="Gives a stopped system VM another offering",
    params=ChangeService,
    response=SystemVmResponse,
    object_name="systemvm",
    response_key="changeserviceforsystemvmresponse",
    roles=ROOT,
    event="SYSTEMVM.UPGRADE",
)
def change_service(call: Call, params: ChangeService) -> Response:
    row = _find(call, params.id)
    _need_state(row, "Stopped", to="change the offering of")
    row = _change(call, params)
    call.event(f"changing the offering of system VM {row.name}", ("SystemVm", row.id))
    call.session.flush()
    return show_system_vms(call.session, [row])[0]


@command(
    "scaleSystemVm",
    description="Gives a system VM another offering; one that runs is rebooted for it",
    params=ChangeService,
    response=SystemVmResponse,
    object_name="systemvm",
    response_key="changeserviceforsystemvmresponse",
    roles=ROOT,
    is_async=True,
    event="SYSTEMVM.UPGRADE",
)
def scale_system_vm(call: Call, params: ChangeService) -> Async:
    row = _change(call, params)
    if row.state == "Running":
        return _answer(row, "scaling", "UPGRADE", "reboot_system_vm")
    return Async(
        "SystemVm",
        row.id,
        f"scaling system VM {row.name}",
        completion="systemvm.show",
        arguments={"appliance_id": row.id},
        event=f"{KINDS[row.role].events}.UPGRADE",
    )


@command(
    "listSystemVms",
    description="Lists system VMs with their state and load",
    params=ListSystemVms,
    response=SystemVmResponse,
    object_name="systemvm",
    roles=ROOT,
)
def list_system_vms(call: Call, params: ListSystemVms) -> tuple[int, list[SystemVmResponse]]:
    roles = [role for role, kind in KINDS.items() if params.systemvmtype in (None, kind.type)]
    statement = (
        select(Appliance)
        .where(Appliance.role.in_(roles), Appliance.removed.is_(None))
        .order_by(Appliance.created, Appliance.id)
    )
    for column, value in (
        (Appliance.id, params.id),
        (Appliance.name, params.name),
        (Appliance.state, params.state.capitalize() if params.state is not None else None),
        (Appliance.zone_id, params.zoneid),
        (Appliance.host_id, params.hostid),
    ):
        if value is not None:
            statement = statement.where(column == value)
    if params.podid is not None:
        hosts = select(Host.id).join(Cluster, Cluster.id == Host.cluster_id).where(Cluster.pod_id == params.podid)
        statement = statement.where(Appliance.host_id.in_(hosts))
    statement = listing.search(statement, params.keyword, Appliance.name, Appliance.state)
    return listing.fetch(call, statement, params, lambda rows: show_system_vms(call.session, rows))
