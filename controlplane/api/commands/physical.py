"""Physical networks, their traffic types and service providers, and public address ranges."""

from __future__ import annotations

import re

from sqlalchemy import select
from sqlalchemy.orm import Session

from controlplane.api import listing
from controlplane.api.call import Call
from controlplane.api.command import ROOT, Async, ListParams, Params, Response, command, param, shown
from controlplane.errors import InUseError, ParameterError, unknown_id
from controlplane.jobs import completion
from controlplane.network import segments
from controlplane.network.supported import SERVICES, VIRTUAL_ROUTER
from controlplane.store.models import AsyncJob, Network, PhysicalNetwork, StorageIpRange, VlanIpRange, Zone

#: netdevice(7): at most 15 characters, no slash, no space
_INTERFACE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,14}")

TRAFFIC_TYPES = ("Management", "Public", "Guest", "Storage")


class PhysicalNetworkResponse(Response):
    id: str = shown("the uuid of the physical network", ...)
    name: str = shown("name of the physical network", ...)
    zoneid: str = shown("zone id of the physical network", ...)
    zonename: str = shown("zone name of the physical network", ...)
    state: str = shown("state of the physical network", ...)
    vlan: str | None = shown("the vlan of the physical network")
    isolationmethods: str = shown("isolation methods", ...)
    broadcastdomainrange: str = shown("Broadcast domain range of the physical network", "ZONE")
    tags: str = shown("comma separated tag", ...)


def _physical(session: Session, row: PhysicalNetwork) -> PhysicalNetworkResponse:
    return PhysicalNetworkResponse(
        id=row.id,
        name=row.name,
        zoneid=row.zone_id,
        zonename=session.get_one(Zone, row.zone_id).name,
        state=row.state,
        vlan=row.vlan,
        isolationmethods=",".join(row.isolation_methods),
        tags=",".join(row.tags),
    )


class ListPhysicalNetworks(ListParams):
    id: str | None = param("list physical network by id", default=None, entity="PhysicalNetwork")
    name: str | None = param("search by name", default=None)
    zoneid: str | None = param("the Zone ID for the physical network", default=None, entity="Zone")


@command(
    "listPhysicalNetworks",
    description="Lists physical networks",
    params=ListPhysicalNetworks,
    response=PhysicalNetworkResponse,
    object_name="physicalnetwork",
    roles=ROOT,
)
def list_physical_networks(call: Call, params: ListPhysicalNetworks) -> tuple[int, list[PhysicalNetworkResponse]]:
    statement = select(PhysicalNetwork)
    if params.id is not None:
        statement = statement.where(PhysicalNetwork.id == call.lookup(PhysicalNetwork, params.id).id)
    if params.name is not None:
        statement = statement.where(PhysicalNetwork.name == params.name)
    if params.zoneid is not None:
        statement = statement.where(PhysicalNetwork.zone_id == call.lookup(Zone, params.zoneid, "zoneid").id)
    statement = listing.search(statement, params.keyword, PhysicalNetwork.name)
    statement = statement.order_by(PhysicalNetwork.name, PhysicalNetwork.id)
    return listing.fetch(call, statement, params, lambda rows: [_physical(call.session, row) for row in rows])


class CreatePhysicalNetwork(Params):
    name: str = param("the name of the physical network")
    zoneid: str = param("the Zone ID for the physical network", entity="Zone")
    vlan: str | None = param("the VLAN ids for guest networks, e.g. 100-200", default=None)
    isolationmethods: list[str] | None = param("the isolation method for the physical network", default=None)
    tags: list[str] | None = param("Tag the physical network", default=None)


@completion("physicalnetwork.show")
def _shown(session: Session, job: AsyncJob, id: str) -> PhysicalNetworkResponse:
    return _physical(session, session.get_one(PhysicalNetwork, id))


@command(
    "createPhysicalNetwork",
    description="Creates a physical network",
    params=CreatePhysicalNetwork,
    response=PhysicalNetworkResponse,
    object_name="physicalnetwork",
    roles=ROOT,
    is_async=True,
    creates=True,
    event="PHYSICAL.NETWORK.CREATE",
)
def create_physical_network(call: Call, params: CreatePhysicalNetwork) -> Async:
    zone = call.lookup(Zone, params.zoneid, "zoneid")
    row = PhysicalNetwork(
        zone_id=zone.id,
        name=params.name,
        vlan=params.vlan,
        isolation_methods=params.isolationmethods or ["VLAN"],
        tags=params.tags or [],
    )
    segments.numbers(row)
    call.session.add(row)
    call.session.flush()
    return Async(
        "PhysicalNetwork",
        row.id,
        f"creating physical network {row.name}",
        completion="physicalnetwork.show",
        arguments={"id": row.id},
    )


class UpdatePhysicalNetwork(Params):
    id: str = param("physical network id", entity="PhysicalNetwork")
    vlan: str | None = param("the VLAN or VXLAN ids for guest networks, e.g. 100-199", default=None, clears=True)
    tags: list[str] | None = param("Tag the physical network", default=None)


@command(
    "updatePhysicalNetwork",
    description="Updates a physical network",
    params=UpdatePhysicalNetwork,
    response=PhysicalNetworkResponse,
    object_name="physicalnetwork",
    roles=ROOT,
    is_async=True,
    event="PHYSICAL.NETWORK.UPDATE",
)
def update_physical_network(call: Call, params: UpdatePhysicalNetwork) -> Async:
    row = call.lookup(PhysicalNetwork, params.id)
    if params.vlan is not None:
        row.vlan = params.vlan or None
        _check_used(call, row)
    if params.tags is not None:
        row.tags = params.tags
    call.session.flush()
    doing = f"updating physical network {row.name}"
    return Async("PhysicalNetwork", row.id, doing, completion="physicalnetwork.show", arguments={"id": row.id})


def _check_used(call: Call, row: PhysicalNetwork) -> None:
    """InUseError when a network has a number that is in none of the ranges."""
    ranges = segments.numbers(row)
    used = select(Network).where(
        Network.physical_network_id == row.id, Network.removed.is_(None), Network.vni.is_not(None)
    )
    for network in call.session.scalars(used):
        given = network.offering.guest_ip_type != "Shared"
        if given and not any(network.vni in numbers for numbers in ranges):
            raise InUseError(f"vlan: network {network.name} has number {network.vni}, which the ranges must include")


class DeletePhysicalNetwork(Params):
    id: str = param("the ID of the Physical network", entity="PhysicalNetwork")


@command(
    "deletePhysicalNetwork",
    description="Deletes a Physical Network.",
    params=DeletePhysicalNetwork,
    roles=ROOT,
    is_async=True,
    event="PHYSICAL.NETWORK.DELETE",
)
def delete_physical_network(call: Call, params: DeletePhysicalNetwork) -> Async:
    row = call.lookup(PhysicalNetwork, params.id)
    for what, used in (
        ("public IP ranges", select(VlanIpRange.id).where(VlanIpRange.physical_network_id == row.id)),
        ("storage IP ranges", select(StorageIpRange.id).where(StorageIpRange.physical_network_id == row.id)),
        ("networks, now or in the past", select(Network.id).where(Network.physical_network_id == row.id)),
    ):
        if call.session.scalar(used.limit(1)) is not None:
            raise InUseError(f"Physical network {row.name} has {what}")
    call.session.delete(row)
    return Async("PhysicalNetwork", row.id, f"deleting physical network {row.name}")


class TrafficTypeResponse(Response):
    id: str = shown("id of the network traffic type", ...)
    traffictype: str = shown("the trafficType to be added to the physical network", ...)
    physicalnetworkid: str = shown("the physical network this belongs to", ...)
    kvmnetworklabel: str | None = shown("the interface or bridge of each KVM host that carries it")


class ListTrafficTypes(ListParams):
    physicalnetworkid: str = param("the Physical Network ID", entity="PhysicalNetwork")


@command(
    "listTrafficTypes",
    description="Lists traffic types of a given physical network.",
    params=ListTrafficTypes,
    response=TrafficTypeResponse,
    object_name="traffictype",
    roles=ROOT,
)
def list_traffic_types(call: Call, params: ListTrafficTypes) -> tuple[int, list[TrafficTypeResponse]]:
    row = call.lookup(PhysicalNetwork, params.physicalnetworkid, "physicalnetworkid")
    # every physical network carries all of them, so they need no rows: the name makes the id
    return listing.cut(call, [_traffic_type(row, kind) for kind in TRAFFIC_TYPES], params)


def _traffic_type(row: PhysicalNetwork, kind: str) -> TrafficTypeResponse:
    label = (row.labels or {}).get(kind)
    id = f"{row.id}-{kind.lower()}"
    return TrafficTypeResponse(id=id, traffictype=kind, physicalnetworkid=row.id, kvmnetworklabel=label)


class UpdateTrafficType(Params):
    id: str = param("traffic type id")
    kvmnetworklabel: str | None = param(
        "the interface of each KVM host that carries this traffic, for untagged traffic a bridge; none takes it away: "
        "networks are of one host then",
        default=None,
    )


@command(
    "updateTrafficType",
    description="Updates traffic type of a physical network",
    params=UpdateTrafficType,
    response=TrafficTypeResponse,
    object_name="traffictype",
    roles=ROOT,
    is_async=True,
    event="TRAFFIC.TYPE.UPDATE",
)
def update_traffic_type(call: Call, params: UpdateTrafficType) -> Async:
    physical_id, _, name = params.id.rpartition("-")
    kind = next((kind for kind in TRAFFIC_TYPES if kind.lower() == name), None)
    row = call.session.get(PhysicalNetwork, physical_id)
    if row is None or kind is None:
        raise unknown_id("id", params.id)
    label = params.kvmnetworklabel
    if label is not None:
        if not _INTERFACE.fullmatch(label):
            raise ParameterError(f"kvmnetworklabel: {label!r} cannot be the name of a network interface")
        others = {key: value for key, value in (row.labels or {}).items() if key != kind}
        row.labels = others if label.lower() == "none" else {**others, kind: label}
        call.session.flush()
    doing = f"updating traffic type {kind} of physical network {row.name}"
    arguments = {"id": row.id, "kind": kind}
    return Async("TrafficType", params.id, doing, completion="traffictype.show", arguments=arguments)


@completion("traffictype.show")
def _shown_type(session: Session, job: AsyncJob, id: str, kind: str) -> TrafficTypeResponse:
    return _traffic_type(session.get_one(PhysicalNetwork, id), kind)


class ProviderResponse(Response):
    id: str = shown("uuid of the network provider", ...)
    name: str = shown("the provider name", ...)
    physicalnetworkid: str = shown("the physical network this belongs to", ...)
    state: str = shown("state of the network provider", "Enabled")
    canenableindividualservice: bool = shown("true if individual services can be enabled/disabled", True)
    servicelist: list[str] = shown("services for this provider", ...)


class ListProviders(ListParams):
    name: str | None = param("list providers by name", default=None)
    physicalnetworkid: str | None = param("the Physical Network ID", default=None, entity="PhysicalNetwork")
    state: str | None = param("list providers by state", default=None)


@command(
    "listNetworkServiceProviders",
    description="Lists network serviceproviders for a given physical network.",
    params=ListProviders,
    response=ProviderResponse,
    object_name="networkserviceprovider",
    roles=ROOT,
)
def list_providers(call: Call, params: ListProviders) -> tuple[int, list[ProviderResponse]]:
    statement = select(PhysicalNetwork).order_by(PhysicalNetwork.name)
    if params.physicalnetworkid is not None:
        row = call.lookup(PhysicalNetwork, params.physicalnetworkid, "physicalnetworkid")
        statement = statement.where(PhysicalNetwork.id == row.id)
    asked = params.name in (None, VIRTUAL_ROUTER) and (params.state or "enabled").lower() == "enabled"
    providers = [
        ProviderResponse(
            id=f"{row.id}-router", name=VIRTUAL_ROUTER, physicalnetworkid=row.id, servicelist=list(SERVICES)
        )
        for row in call.session.scalars(statement)
        if asked
    ]
    return listing.cut(call, providers, params)


class CapabilityResponse(Response):
    name: str = shown("the capability name", ...)
    value: str = shown("the capability value", ...)
    canchooseservicecapability: bool = shown(
        "can this service capability value can be choosable while creatine network offerings", False
    )


class ServiceProvider(Response):
    name: str = shown("the provider name", ...)


class ServiceResponse(Response):
    name: str = shown("the service name", ...)
    provider: list[ServiceProvider] = shown("the service provider name", ...)
    capability: list[CapabilityResponse] = shown("the list of capabilities", ...)


class ListServices(ListParams):
    service: str | None = param("network service name to list providers and capabilities of", default=None)
    provider: str | None = param("network service provider name", default=None)


@command(
    "listSupportedNetworkServices",
    description="Lists all network services provided, with their capabilities",
    params=ListServices,
    response=ServiceResponse,
    object_name="networkservice",
)
def list_services(call: Call, params: ListServices) -> tuple[int, list[ServiceResponse]]:
    found = [
        ServiceResponse(
            name=service.name,
            provider=[ServiceProvider(name=name) for name in service.providers],
            capability=[
                CapabilityResponse(name=item.name, value=item.value, canchooseservicecapability=bool(item.choices))
                for item in service.capabilities
            ],
        )
        for service in SERVICES.values()
        if (params.service is None or service.name.lower() == params.service.lower())
        and (params.provider is None or params.provider in service.providers)
    ]
    return listing.cut(call, found, params)
