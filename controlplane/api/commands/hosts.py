"""Hosts: what they have, adding and removing them, maintenance (guide: chapters 8, 11)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from urllib.parse import urlsplit

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from appliance.errors import GatehouseError
from controlplane.api import listing
from controlplane.api.call import Call
from controlplane.api.command import (
    ROOT,
    Async,
    Later,
    ListParams,
    Params,
    Response,
    Success,
    command,
    param,
    shown,
)
from controlplane.compute import hosts
from controlplane.compute.hosts import FAILED, MAINTENANCE, PREPARING, Amount
from controlplane.configuration import Configuration
from controlplane.errors import ApiError, InUseError, ParameterError
from controlplane.jobs import completion
from controlplane.store.models import Appliance, AsyncJob, Cluster, Host, Pod, Vm, Zone

ENABLED, DISABLED = "Enabled", "Disabled"
_LEAVING = (PREPARING, MAINTENANCE, FAILED)
_STATES = {"enable": ENABLED, "disable": DISABLED}


class HostResponse(Response):
    id: str = shown("the ID of the host", ...)
    name: str = shown("the name of the host", ...)
    state: str = shown("the state of the host", ...)
    resourcestate: str = shown("the resource state of the host", ...)
    type: str = shown("the host type", "Routing")
    ipaddress: str = shown("the address that the host is reached at", ...)
    clusterid: str = shown("the cluster ID of the host", ...)
    clustername: str = shown("the cluster name of the host", ...)
    podid: str = shown("the Pod ID of the host", ...)
    podname: str = shown("the Pod name of the host", ...)
    zoneid: str = shown("the Zone ID of the host", ...)
    zonename: str = shown("the Zone name of the host", ...)
    hypervisor: str = shown("the host hypervisor", ...)
    cpunumber: int = shown("the CPU number of the host", ...)
    cpuspeed: int = shown("the CPU speed of the host, in MHz", ...)
    cpuallocated: str = shown("the amount of the host's CPU currently allocated", ...)
    cpuused: str | None = shown("the amount of the host's CPU that was in use when it was asked last", None)
    cpuwithoverprovisioning: str = shown("the amount of the host's CPU after applying the factor, in MHz", ...)
    memorytotal: int = shown("the memory total of the host, in bytes", ...)
    memoryallocated: int = shown("the amount of the host's memory currently allocated, in bytes", ...)
    memoryallocatedbytes: int = shown("the amount of the host's memory currently allocated, in bytes", ...)
    memoryallocatedpercentage: str = shown("the amount of the host's memory currently allocated", ...)
    memoryused: int | None = shown("the amount of the host's memory that was in use when it was asked last", None)
    memorywithoverprovisioning: str = shown("the amount of the host's memory after applying the factor", ...)
    created: datetime = shown("the date and time the host was created", ...)


class ListHosts(ListParams):
    id: str | None = param("the id of the host", default=None, entity="Host")
    name: str | None = param("the name of the host", default=None)
    clusterid: str | None = param("lists hosts existing in particular cluster", default=None, entity="Cluster")
    podid: str | None = param("the Pod ID for the host", default=None, entity="Pod")
    zoneid: str | None = param("the Zone ID for the host", default=None, entity="Zone")
    type: str | None = param("the host type", default=None)
    state: str | None = param("the state of the host", default=None)
    resourcestate: str | None = param("list hosts by resource state", default=None)
    hypervisor: str | None = param("hypervisor type of host", default=None)


@command(
    "listHosts", description="Lists hosts.", params=ListHosts, response=HostResponse, object_name="host", roles=ROOT
)
def list_hosts(call: Call, params: ListHosts) -> tuple[int, list[HostResponse]]:
    statement = select(Host).join(Cluster).join(Pod)
    if params.type is not None and params.type.lower() != "routing":
        return 0, []
    if params.id is not None:
        statement = statement.where(Host.id == call.lookup(Host, params.id).id)
    if params.name is not None:
        statement = statement.where(Host.name == params.name)
    if params.clusterid is not None:
        statement = statement.where(Host.cluster_id == call.lookup(Cluster, params.clusterid, "clusterid").id)
    if params.podid is not None:
        statement = statement.where(Cluster.pod_id == call.lookup(Pod, params.podid, "podid").id)
    if params.zoneid is not None:
        statement = statement.where(Pod.zone_id == call.lookup(Zone, params.zoneid, "zoneid").id)
    if params.state is not None:
        statement = statement.where(Host.state == params.state.capitalize())
    if params.resourcestate is not None:
        statement = statement.where(func.lower(Host.resource_state) == params.resourcestate.lower())
    if params.hypervisor is not None:
        statement = statement.where(Cluster.hypervisor == params.hypervisor)
    statement = listing.search(statement, params.keyword, Host.name).order_by(Host.name, Host.id)
    return listing.fetch(call, statement, params, lambda rows: show_hosts(call.session, call.configuration, rows))


def show_hosts(session: Session, configuration: Configuration, rows: Sequence[Host]) -> list[HostResponse]:
    """Hosts as answers have them."""
    taken = hosts.promised(session, [host.id for host in rows])
    return [_host(session, host, taken[host.id], hosts.total(session, configuration, host)) for host in rows]


def _host(session: Session, host: Host, taken: Amount, there: Amount) -> HostResponse:
    cluster = host.cluster
    zone = session.get_one(Zone, cluster.pod.zone_id)
    return HostResponse(
        id=host.id,
        name=host.name,
        state=host.state,
        resourcestate=host.resource_state,
        ipaddress=urlsplit(host.url).hostname or "127.0.0.1",
        clusterid=cluster.id,
        clustername=cluster.name,
        podid=cluster.pod_id,
        podname=cluster.pod.name,
        zoneid=zone.id,
        zonename=zone.name,
        hypervisor=cluster.hypervisor,
        cpunumber=host.cpus,
        cpuspeed=host.cpu_mhz,
        cpuallocated=percent(taken.mhz, there.mhz),
        cpuused=f"{host.cpu_used:.2f}%" if host.cpu_used is not None else None,
        cpuwithoverprovisioning=str(there.mhz),
        memorytotal=host.memory_bytes,
        memoryallocated=taken.memory,
        memoryallocatedbytes=taken.memory,
        memoryallocatedpercentage=percent(taken.memory, there.memory),
        memoryused=host.memory_used,
        memorywithoverprovisioning=str(there.memory),
        created=host.created,
    )


def percent(part: int, whole: int) -> str:
    """Such as ``12.50%``; of nothing, ``0%``."""
    return f"{100 * part / whole:.2f}%" if whole else "0%"


class AddHost(Params):
    hypervisor: str = param("hypervisor type of the host")
    zoneid: str = param("the Zone ID for the host", entity="Zone")
    podid: str = param("the Pod ID for the host", entity="Pod")
    url: str = param("the host URL: how libvirt connects to it, such as qemu:///system")
    clusterid: str | None = param("the cluster ID for the host", default=None, entity="Cluster")
    allocationstate: str | None = param("Allocation state of this Host: Enable or Disable", default=None)


@command(
    "addHost",
    description="Adds a new host.",
    params=AddHost,
    response=HostResponse,
    object_name="host",
    roles=ROOT,
    event="HOST.ADD",
)
def add_host(call: Call, params: AddHost) -> Later:
    zone, pod = call.lookup(Zone, params.zoneid, "zoneid"), call.lookup(Pod, params.podid, "podid")
    cluster = _cluster(call, pod, params.clusterid)
    if pod.zone_id != zone.id:
        raise ParameterError(f"podid: pod {pod.name} is not in zone {zone.name}")
    if params.hypervisor.lower() != cluster.hypervisor.lower():
        raise ParameterError(f"hypervisor: cluster {cluster.name} is of {cluster.hypervisor} hosts")
    url = params.url.strip()
    if call.session.scalar(select(Host.id).where(Host.url == url)) is not None:
        raise ParameterError(f"url: there is a host at {url} already")
    state = _allocation(params.allocationstate or "Enable")
    host = Host(cluster_id=cluster.id, name=url, url=url, state="Connecting", resource_state=state)
    call.session.add(host)
    call.session.flush()
    runtime, host_id = call.runtime, host.id

    def connect() -> HostResponse:
        # it may take seconds, so not in the transaction
        try:
            facts = runtime.hypervisor.add_host(url)
        except GatehouseError as error:
            with runtime.database.transaction() as session:
                session.delete(session.get_one(Host, host_id))
            raise ApiError(str(error)) from error
        with runtime.database.transaction() as session:
            row = session.get_one(Host, host_id)
            row.name, row.state = facts.name, "Up"
            hosts.take_facts(row, facts)
            session.flush()
            return show_hosts(session, runtime.configuration, [row])[0]

    return Later(connect)


def _cluster(call: Call, pod: Pod, cluster_id: str | None) -> Cluster:
    if cluster_id is not None:
        cluster = call.lookup(Cluster, cluster_id, "clusterid")
        if cluster.pod_id != pod.id:
            raise ParameterError(f"clusterid: cluster {cluster.name} is not in pod {pod.name}")
        return cluster
    found = call.session.scalars(select(Cluster).where(Cluster.pod_id == pod.id).order_by(Cluster.created)).first()
    if found is None:
        raise ParameterError(f"podid: pod {pod.name} has no cluster")
    return found


def _allocation(text: str) -> str:
    state = _STATES.get(text.lower().removesuffix("d"))
    if state is None:
        raise ParameterError(f"allocationstate: {text!r} is neither Enable nor Disable")
    return state


class HostId(Params):
    id: str = param("the host ID", entity="Host")


class UpdateHost(HostId):
    allocationstate: str | None = param(
        "Change resource state of host, valid values are [Enable, Disable]", default=None
    )
    name: str | None = param("Change the name of host", default=None)


@command(
    "updateHost",
    description="Updates a host.",
    params=UpdateHost,
    response=HostResponse,
    object_name="host",
    roles=ROOT,
    event="HOST.EDIT",
)
def update_host(call: Call, params: UpdateHost) -> HostResponse:
    host = call.lookup(Host, params.id)
    if params.allocationstate is not None:
        if host.resource_state in _LEAVING:
            raise InUseError(f"host {host.name} is in maintenance; cancel that first")
        host.resource_state = _allocation(params.allocationstate)
    if params.name is not None:
        host.name = params.name
    call.session.flush()
    return show_hosts(call.session, call.configuration, [host])[0]


class DeleteHost(HostId):
    forced: bool = param("Force delete the host although it does not answer", default=False)


@command(
    "deleteHost",
    description="Deletes a host.",
    params=DeleteHost,
    response=Success,
    roles=ROOT,
    event="HOST.DELETE",
)
def delete_host(call: Call, params: DeleteHost) -> Later:
    session, host = call.session, call.lookup(Host, params.id)
    if host.resource_state != MAINTENANCE and not params.forced:
        raise InUseError(f"host {host.name} is {host.resource_state}; prepare it for maintenance first")
    if hosts.promised(session, [host.id])[host.id] != Amount(0, 0):
        raise InUseError(f"instances run on host {host.name}; stop them first")
    if session.scalar(select(Host.id).where(Host.id != host.id).limit(1)) is None:
        raise InUseError(f"host {host.name} is the only one; add another first")
    for model in (Vm, Appliance):
        session.execute(update(model).where(model.host_id == host.id).values(host_id=None))
    runtime, url, forced = call.runtime, host.url, params.forced
    session.delete(host)
    session.flush()

    def let_go() -> Success:
        try:
            runtime.hypervisor.remove_host(url)
        except GatehouseError:
            if not forced:
                raise
        return Success()

    return Later(let_go)


@command(
    "prepareHostForMaintenance",
    description="Prepares a host for maintenance: what runs there moves to other hosts, or is stopped.",
    params=HostId,
    response=HostResponse,
    object_name="host",
    roles=ROOT,
    is_async=True,
    event="MAINT.PREPARE",
)
def prepare_for_maintenance(call: Call, params: HostId) -> Async:
    host = call.lookup(Host, params.id)
    if host.resource_state == MAINTENANCE:
        raise InUseError(f"host {host.name} is in maintenance already")
    host.resource_state = PREPARING
    call.session.flush()
    return Async(
        "Host",
        host.id,
        f"preparing host {host.name} for maintenance",
        workflow="prepare_host",
        completion="host.show",
        arguments={"host_id": host.id},
        completion_arguments={"id": host.id},
    )


@command(
    "cancelHostMaintenance",
    description="Cancels host maintenance.",
    params=HostId,
    response=HostResponse,
    object_name="host",
    roles=ROOT,
    is_async=True,
    event="MAINT.CANCEL",
)
def cancel_maintenance(call: Call, params: HostId) -> Async:
    host = call.lookup(Host, params.id)
    if host.resource_state not in _LEAVING:
        raise ParameterError(f"id: host {host.name} is not in maintenance")
    host.resource_state = ENABLED
    call.session.flush()
    text = f"cancelling maintenance of host {host.name}"
    return Async("Host", host.id, text, completion="host.show", arguments={"id": host.id})


@completion("host.show")
def _shown(session: Session, job: AsyncJob, id: str) -> HostResponse:
    return show_hosts(session, Configuration(), [session.get_one(Host, id)])[0]
