"""Physical networks, their traffic types and service providers, and public address ranges."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from controlplane.api import listing
from controlplane.api.call import Call
from controlplane.api.command import ROOT, Async, ListParams, Params, Response, Success, command, param, shown
from controlplane.errors import InUseError, ParameterError, UnsupportedError
from controlplane.jobs import completion
from controlplane.network import ranges
from controlplane.network.supported import SERVICES, VIRTUAL_ROUTER
from controlplane.store.models import Account, AsyncJob, Network, PhysicalNetwork, VlanIpRange, Zone

TRAFFIC_TYPES = ("Management", "Public", "Guest")


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
    call.session.add(row)
    call.session.flush()
    return Async(
        "PhysicalNetwork",
        row.id,
        f"creating physical network {row.name}",
        completion="physicalnetwork.show",
        arguments={"id": row.id},
    )


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
    kinds = [
        TrafficTypeResponse(id=f"{row.id}-{kind.lower()}", traffictype=kind, physicalnetworkid=row.id)
        for kind in TRAFFIC_TYPES
    ]
    return listing.cut(call, kinds, params)


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


class VlanIpRangeResponse(Response):
    id: str = shown("the ID of the VLAN IP range", ...)
    forvirtualnetwork: bool = shown("the virtual network for the VLAN IP range", True)
    zoneid: str = shown("the Zone ID of the VLAN IP range", ...)
    vlan: str = shown("the ID or VID of the VLAN.", ...)
    gateway: str = shown("the gateway of the VLAN IP range", ...)
    netmask: str = shown("the netmask of the VLAN IP range", ...)
    cidr: str = shown("the cidr of the VLAN IP range", ...)
    startip: str = shown("the start ip of the VLAN IP range", ...)
    endip: str = shown("the end ip of the VLAN IP range", ...)
    physicalnetworkid: str = shown("the physical network this belongs to", ...)
    account: str | None = shown("the account of the VLAN IP range")
    domainid: str | None = shown("the domain ID of the VLAN IP range")
    domain: str | None = shown("the domain name of the VLAN IP range")


def _range(session: Session, row: VlanIpRange) -> VlanIpRangeResponse:
    account = session.get_one(Account, row.account_id) if row.account_id is not None else None
    return VlanIpRangeResponse(
        id=row.id,
        zoneid=row.zone_id,
        vlan=row.vlan,
        gateway=row.gateway,
        netmask=row.netmask,
        cidr=str(ranges.parse_subnet(row.gateway, row.netmask)),
        startip=row.start_ip,
        endip=row.end_ip,
        physicalnetworkid=row.physical_network_id,
        account=account.name if account is not None else None,
        domainid=account.domain_id if account is not None else None,
        domain=account.domain.name if account is not None else None,
    )


class ListVlanIpRanges(ListParams):
    id: str | None = param("the ID of the VLAN IP range", default=None, entity="VlanIpRange")
    zoneid: str | None = param("the Zone ID of the VLAN IP range", default=None, entity="Zone")
    physicalnetworkid: str | None = param("physical network id", default=None, entity="PhysicalNetwork")
    vlan: str | None = param("the ID or VID of the VLAN", default=None)
    account: str | None = param("the account to which the range is dedicated; needs domainid", default=None)
    domainid: str | None = param("the domain of that account", default=None, entity="Domain")
    forvirtualnetwork: bool = param("true for public ranges, the only kind there is", default=True)


@command(
    "listVlanIpRanges",
    description="Lists all VLAN IP ranges.",
    params=ListVlanIpRanges,
    response=VlanIpRangeResponse,
    object_name="vlaniprange",
    roles=ROOT,
)
def list_ranges(call: Call, params: ListVlanIpRanges) -> tuple[int, list[VlanIpRangeResponse]]:
    if not params.forvirtualnetwork:
        return 0, []
    statement = select(VlanIpRange)
    if params.id is not None:
        statement = statement.where(VlanIpRange.id == call.lookup(VlanIpRange, params.id).id)
    if params.zoneid is not None:
        statement = statement.where(VlanIpRange.zone_id == call.lookup(Zone, params.zoneid, "zoneid").id)
    if params.physicalnetworkid is not None:
        physical = call.lookup(PhysicalNetwork, params.physicalnetworkid, "physicalnetworkid")
        statement = statement.where(VlanIpRange.physical_network_id == physical.id)
    if params.vlan is not None:
        statement = statement.where(VlanIpRange.vlan == ranges.parse_vlan(params.vlan))
    if params.account is not None:
        statement = statement.where(VlanIpRange.account_id == call.owner(params.account, params.domainid).id)
    columns = (VlanIpRange.vlan, VlanIpRange.start_ip, VlanIpRange.gateway)
    statement = listing.search(statement, params.keyword, *columns).order_by(VlanIpRange.created, VlanIpRange.id)
    return listing.fetch(call, statement, params, lambda rows: [_range(call.session, row) for row in rows])


class CreateVlanIpRange(Params):
    startip: str = param("the beginning IP address in the VLAN IP range")
    endip: str | None = param("the ending IP address in the VLAN IP range", default=None)
    gateway: str = param("the gateway of the VLAN IP range")
    netmask: str = param("the netmask of the VLAN IP range")
    vlan: str | None = param("the ID or VID of the VLAN; untagged by default", default=None)
    zoneid: str | None = param("the Zone ID of the VLAN IP range", default=None, entity="Zone")
    physicalnetworkid: str | None = param("the physical network id", default=None, entity="PhysicalNetwork")
    forvirtualnetwork: bool = param("true for a public range, the only kind there is", default=True)
    account: str | None = param("account that alone gets addresses of the range; needs domainid", default=None)
    domainid: str | None = param("domain of that account", default=None, entity="Domain")


@command(
    "createVlanIpRange",
    description="Creates a VLAN IP range.",
    params=CreateVlanIpRange,
    response=VlanIpRangeResponse,
    object_name="vlan",
    roles=ROOT,
    event="VLAN.IP.RANGE.CREATE",
)
def create_range(call: Call, params: CreateVlanIpRange) -> VlanIpRangeResponse:
    if not params.forvirtualnetwork:
        raise UnsupportedError("forvirtualnetwork=false: only public ranges are supported")
    physical = _physical_for(call, params.zoneid, params.physicalnetworkid)
    dedicated = params.account is not None or params.domainid is not None
    row = VlanIpRange(
        zone_id=physical.zone_id,
        physical_network_id=physical.id,
        vlan=ranges.parse_vlan(params.vlan),
        gateway=params.gateway,
        netmask=params.netmask,
        start_ip=params.startip,
        end_ip=params.endip or params.startip,
        account_id=call.owner(params.account, params.domainid).id if dedicated else None,
    )
    ranges.check_new(call.session, row)
    call.session.add(row)
    call.session.flush()
    call.event(f"Successfully created public range {row.start_ip}-{row.end_ip}", ("VlanIpRange", row.id))
    return _range(call.session, row)


def _physical_for(call: Call, zoneid: str | None, physicalnetworkid: str | None) -> PhysicalNetwork:
    """The physical network of a new range: the one given, or the only one of the zone."""
    if physicalnetworkid is not None:
        physical = call.lookup(PhysicalNetwork, physicalnetworkid, "physicalnetworkid")
        if zoneid is not None and call.lookup(Zone, zoneid, "zoneid").id != physical.zone_id:
            raise ParameterError("physicalnetworkid: that physical network is in another zone")
        return physical
    if zoneid is None:
        raise ParameterError("give zoneid, or physicalnetworkid")
    zone = call.lookup(Zone, zoneid, "zoneid")
    found = call.session.scalars(select(PhysicalNetwork).where(PhysicalNetwork.zone_id == zone.id)).all()
    if len(found) != 1:
        raise ParameterError(f"zone {zone.name} has {len(found)} physical networks; say which with physicalnetworkid")
    return found[0]


class DeleteVlanIpRange(Params):
    id: str = param("the id of the VLAN IP range", entity="VlanIpRange")


@command(
    "deleteVlanIpRange",
    description="Deletes a VLAN IP range.",
    params=DeleteVlanIpRange,
    roles=ROOT,
    event="VLAN.IP.RANGE.DELETE",
)
def delete_range(call: Call, params: DeleteVlanIpRange) -> Success:
    row = call.lookup(VlanIpRange, params.id)
    ranges.remove(call.session, row)
    call.event(f"Successfully deleted public range {row.start_ip}-{row.end_ip}", ("VlanIpRange", row.id))
    return Success()


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
