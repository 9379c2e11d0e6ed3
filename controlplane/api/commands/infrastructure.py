"""Pods, clusters and hypervisors: what hosts are grouped in."""

from __future__ import annotations

from sqlalchemy import select

from controlplane.api import listing
from controlplane.api.call import Call
from controlplane.api.command import ROOT, ListParams, Params, Response, command, param, shown
from controlplane.errors import ParameterError
from controlplane.network import addressing, ranges
from controlplane.store.models import Cluster, Pod, Zone


class PodResponse(Response):
    id: str = shown("the ID of the Pod", ...)
    name: str = shown("the name of the Pod", ...)
    zoneid: str = shown("the Zone ID of the Pod", ...)
    zonename: str = shown("the Zone name of the Pod", ...)
    gateway: str = shown("the gateway of the Pod", ...)
    netmask: str = shown("the netmask of the Pod", ...)
    startip: list[str] = shown("the starting IP for the Pod", ...)
    endip: list[str] = shown("the ending IP for the Pod", ...)
    allocationstate: str = shown("the allocation state of the Pod", ...)


class ListPods(ListParams):
    id: str | None = param("list Pods by ID", default=None, entity="Pod")
    name: str | None = param("list Pods by name", default=None)
    zoneid: str | None = param("list Pods by Zone ID", default=None, entity="Zone")
    allocationstate: str | None = param("list pods by allocation state", default=None)


def _pods(call: Call, pods: list[Pod]) -> list[PodResponse]:
    return [
        PodResponse(
            id=pod.id,
            name=pod.name,
            zoneid=pod.zone_id,
            zonename=call.session.get_one(Zone, pod.zone_id).name,
            gateway=pod.gateway,
            netmask=pod.netmask,
            startip=[pod.start_ip],
            endip=[pod.end_ip],
            allocationstate=pod.allocation_state,
        )
        for pod in pods
    ]


@command(
    "listPods", description="Lists all Pods.", params=ListPods, response=PodResponse, object_name="pod", roles=ROOT
)
def list_pods(call: Call, params: ListPods) -> tuple[int, list[PodResponse]]:
    statement = select(Pod)
    if params.id is not None:
        statement = statement.where(Pod.id == call.lookup(Pod, params.id).id)
    if params.name is not None:
        statement = statement.where(Pod.name == params.name)
    if params.zoneid is not None:
        statement = statement.where(Pod.zone_id == call.lookup(Zone, params.zoneid, "zoneid").id)
    if params.allocationstate is not None:
        statement = statement.where(Pod.allocation_state == params.allocationstate.capitalize())
    statement = listing.search(statement, params.keyword, Pod.name).order_by(Pod.name, Pod.id)
    return listing.fetch(call, statement, params, lambda rows: _pods(call, rows))


class CreatePod(Params):
    name: str = param("the name of the Pod")
    zoneid: str = param("the Zone ID in which the Pod will be created", entity="Zone")
    gateway: str = param("the gateway for the Pod")
    netmask: str = param("the netmask for the Pod")
    startip: str = param("the starting IP address for the Pod")
    endip: str | None = param("the ending IP address for the Pod", default=None)


@command(
    "createPod",
    description="Creates a new Pod.",
    params=CreatePod,
    response=PodResponse,
    object_name="pod",
    roles=ROOT,
    event="POD.CREATE",
)
def create_pod(call: Call, params: CreatePod) -> PodResponse:
    zone = call.lookup(Zone, params.zoneid, "zoneid")
    taken = select(Pod.id).where(Pod.zone_id == zone.id, Pod.name == params.name)
    if call.session.scalar(taken) is not None:
        raise ParameterError(f"A pod with name {params.name} already exists in zone {zone.name}")
    network = ranges.parse_subnet(params.gateway, params.netmask)
    start, end = addressing.address_range(network, params.startip, params.endip)
    pod = Pod(
        zone_id=zone.id,
        name=params.name,
        gateway=params.gateway,
        netmask=params.netmask,
        start_ip=start or params.startip,
        end_ip=end or params.startip,
    )
    call.session.add(pod)
    call.session.flush()
    call.event(f"Successfully created pod {pod.name}", ("Pod", pod.id))
    return _pods(call, [pod])[0]


class ClusterResponse(Response):
    id: str = shown("the cluster ID", ...)
    name: str = shown("the cluster name", ...)
    podid: str = shown("the Pod ID of the cluster", ...)
    podname: str = shown("the Pod name of the cluster", ...)
    zoneid: str = shown("the Zone ID of the cluster", ...)
    zonename: str = shown("the Zone name of the cluster", ...)
    hypervisortype: str = shown("the hypervisor type of the cluster", ...)
    clustertype: str = shown("the type of the cluster", "CloudManaged")
    allocationstate: str = shown("the allocation state of the cluster", ...)
    managedstate: str = shown("whether this cluster is managed", "Managed")


class ListClusters(ListParams):
    id: str | None = param("lists clusters by the cluster ID", default=None, entity="Cluster")
    name: str | None = param("lists clusters by the cluster name", default=None)
    podid: str | None = param("lists clusters by Pod ID", default=None, entity="Pod")
    zoneid: str | None = param("lists clusters by Zone ID", default=None, entity="Zone")
    hypervisor: str | None = param("lists clusters by hypervisor type", default=None)


@command(
    "listClusters",
    description="Lists clusters.",
    params=ListClusters,
    response=ClusterResponse,
    object_name="cluster",
    roles=ROOT,
)
def list_clusters(call: Call, params: ListClusters) -> tuple[int, list[ClusterResponse]]:
    statement = select(Cluster).join(Pod)
    if params.id is not None:
        statement = statement.where(Cluster.id == call.lookup(Cluster, params.id).id)
    if params.name is not None:
        statement = statement.where(Cluster.name == params.name)
    if params.podid is not None:
        statement = statement.where(Cluster.pod_id == call.lookup(Pod, params.podid, "podid").id)
    if params.zoneid is not None:
        statement = statement.where(Pod.zone_id == call.lookup(Zone, params.zoneid, "zoneid").id)
    if params.hypervisor is not None:
        statement = statement.where(Cluster.hypervisor == params.hypervisor)
    statement = listing.search(statement, params.keyword, Cluster.name).order_by(Cluster.name, Cluster.id)
    return listing.fetch(call, statement, params, lambda rows: [_cluster(call, row) for row in rows])


def _cluster(call: Call, cluster: Cluster) -> ClusterResponse:
    zone = call.session.get_one(Zone, cluster.pod.zone_id)
    return ClusterResponse(
        id=cluster.id,
        name=cluster.name,
        podid=cluster.pod_id,
        podname=cluster.pod.name,
        zoneid=zone.id,
        zonename=zone.name,
        hypervisortype=cluster.hypervisor,
        allocationstate=cluster.allocation_state,
    )


class HypervisorResponse(Response):
    name: str = shown("Hypervisor name", ...)


class ListHypervisors(Params):
    zoneid: str | None = param("the zone id for listing hypervisors.", default=None, entity="Zone")


@command(
    "listHypervisors",
    description="List hypervisors",
    params=ListHypervisors,
    response=HypervisorResponse,
    object_name="hypervisor",
)
def list_hypervisors(call: Call, params: ListHypervisors) -> tuple[int, list[HypervisorResponse]]:
    statement = select(Cluster.hypervisor).join(Pod).distinct().order_by(Cluster.hypervisor)
    if params.zoneid is not None:
        statement = statement.where(Pod.zone_id == call.lookup(Zone, params.zoneid, "zoneid").id)
    found = [HypervisorResponse(name=name) for name in call.session.scalars(statement)]
    return len(found), found
