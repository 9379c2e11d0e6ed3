"""Network offerings: which services a kind of network has."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import select

from controlplane.api import listing
from controlplane.api.call import Call
from controlplane.api.command import ROOT, Entry, ListParams, Params, Response, Success, command, param, shown
from controlplane.api.commands.physical import CapabilityResponse, ServiceProvider, ServiceResponse
from controlplane.errors import InUseError, ParameterError, UnsupportedError
from controlplane.network import supported
from controlplane.store.models import Network, NetworkOffering, ServiceOffering, Zone, now

STATES = ("Enabled", "Disabled", "Inactive")
AVAILABILITIES = ("Optional", "Required")


class NetworkOfferingResponse(Response):
    id: str = shown("the id of the network offering", ...)
    name: str = shown("the name of the network offering", ...)
    displaytext: str = shown("an alternate display text of the network offering.", ...)
    guestiptype: str = shown("guest type of the network offering, can be Shared or Isolated", ...)
    traffictype: str = shown(
        "the traffic type for the network offering, supported types are Public, Management, Control, Guest", ...
    )
    state: str = shown("state of the network offering. Can be Disabled/Enabled/Inactive", ...)
    availability: str = shown("availability of the network offering", ...)
    isdefault: bool = shown("true if network offering is default, false otherwise", ...)
    ispersistent: bool = shown("true if network offering supports persistent networks, false otherwise", ...)
    egressdefaultpolicy: bool = shown(
        "true if guest network default egress policy is allow; false if default egress policy is deny", ...
    )
    conservemode: bool = shown("true if network offering is ip conserve mode enabled", ...)
    specifyvlan: bool = shown("true if network offering supports vlans, false otherwise", ...)
    specifyipranges: bool = shown("true if network offering supports specifying ip ranges, false otherwise", ...)
    forvpc: bool = shown("true if network offering can be used by VPC networks only", ...)
    networkrate: int | None = shown("data transfer rate in megabits per second allowed.")
    serviceofferingid: str | None = shown("the ID of the service offering used by virtual router provider")
    serviceofferingname: str | None = shown("the name of the service offering used by virtual router provider")
    internetprotocol: str = shown("the internet protocol of the network offering", "IPv4")
    tags: str | None = shown("the tags for the network offering")
    created: datetime = shown("the date this network offering was created", ...)
    service: list[ServiceResponse] = shown("the list of supported services", ...)


def _show(call: Call, row: NetworkOffering) -> NetworkOfferingResponse:
    router = call.session.get(ServiceOffering, row.service_offering_id) if row.service_offering_id else None
    return NetworkOfferingResponse(
        id=row.id,
        name=row.name,
        displaytext=row.display_text,
        guestiptype=row.guest_ip_type,
        traffictype=row.traffic_type,
        state=row.state,
        availability=row.availability,
        isdefault=row.is_default,
        ispersistent=row.is_persistent,
        egressdefaultpolicy=row.egress_default_allow,
        conservemode=row.conserve_mode,
        specifyvlan=row.specify_vlan,
        specifyipranges=row.specify_ip_ranges,
        forvpc=row.for_vpc,
        networkrate=row.network_rate,
        serviceofferingid=row.service_offering_id,
        serviceofferingname=router.name if router is not None else None,
        tags=row.tags,
        created=row.created,
        service=[
            ServiceResponse(
                name=name,
                provider=[ServiceProvider(name=provider) for provider in entry["providers"]],
                capability=[
                    CapabilityResponse(name=key, value=value) for key, value in entry.get("capabilities", {}).items()
                ],
            )
            for name, entry in row.services.items()
        ],
    )


class ListNetworkOfferings(ListParams):
    id: str | None = param("list network offerings by ID", default=None, entity="NetworkOffering")
    name: str | None = param("list network offerings by name", default=None)
    displaytext: str | None = param("list network offerings by display text", default=None, length=4096)
    guestiptype: str | None = param("list network offerings by guest type: shared or isolated", default=None)
    traffictype: str | None = param("list by traffic type", default=None)
    state: str | None = param("list network offerings by state", default=None, choices=STATES)
    availability: str | None = param(
        "the availability of network offering. Default value is required", default=None, choices=AVAILABILITIES
    )
    isdefault: bool | None = param("true if need to list only default network offerings", default=None)
    forvpc: bool | None = param(
        "the network offering can be used only for network creation inside the VPC", default=None
    )
    specifyvlan: bool | None = param("the tags for the network offering.", default=None)
    supportedservices: list[str] | None = param("list network offerings supporting certain services", default=None)
    zoneid: str | None = param(
        "list network offerings available for network creation in specific zone", default=None, entity="Zone"
    )


@command(
    "listNetworkOfferings",
    description="Lists all available network offerings.",
    params=ListNetworkOfferings,
    response=NetworkOfferingResponse,
    object_name="networkoffering",
)
def list_network_offerings(call: Call, params: ListNetworkOfferings) -> tuple[int, list[NetworkOfferingResponse]]:
    statement = select(NetworkOffering).where(NetworkOffering.removed.is_(None))
    if not call.is_root:
        # only who knows the physical network can say a VLAN
        statement = statement.where(NetworkOffering.state == "Enabled", NetworkOffering.specify_vlan.is_(False))
    if params.id is not None:
        statement = statement.where(NetworkOffering.id == call.lookup(NetworkOffering, params.id).id)
    if params.zoneid is not None:
        call.lookup(Zone, params.zoneid, "zoneid")
    for column, value in (
        (NetworkOffering.name, params.name),
        (NetworkOffering.display_text, params.displaytext),
        (NetworkOffering.guest_ip_type, params.guestiptype and params.guestiptype.capitalize()),
        (NetworkOffering.traffic_type, params.traffictype and params.traffictype.capitalize()),
        (NetworkOffering.state, params.state),
        (NetworkOffering.availability, params.availability),
    ):
        if value is not None:
            statement = statement.where(column == value)
    for flag, wanted in (
        (NetworkOffering.is_default, params.isdefault),
        (NetworkOffering.for_vpc, params.forvpc),
        (NetworkOffering.specify_vlan, params.specifyvlan),
    ):
        if wanted is not None:
            statement = statement.where(flag == wanted)
    statement = listing.search(statement, params.keyword, NetworkOffering.name, NetworkOffering.display_text)
    statement = statement.order_by(NetworkOffering.created, NetworkOffering.name)
    if params.supportedservices:
        # services are JSON; offerings are few, so they are looked at here
        wanted_services = {name.lower() for name in params.supportedservices}
        rows = [
            row for row in call.session.scalars(statement) if wanted_services <= {name.lower() for name in row.services}
        ]
        return listing.cut(call, [_show(call, row) for row in rows], params)
    return listing.fetch(call, statement, params, lambda rows: [_show(call, row) for row in rows])


class ServiceProviderEntry(Entry):
    service: str = param("name of a service")
    provider: str = param("who provides it")


class CapabilityEntry(Entry):
    service: str = param("name of a service")
    capabilitytype: str = param("name of one of its capabilities")
    capabilityvalue: str = param("value of the capability")


class CreateNetworkOffering(Params):
    name: str = param("the name of the network offering")
    displaytext: str | None = param("the display text of the network offering", default=None, length=4096)
    guestiptype: str = param(
        "guest type of the network offering: Shared or Isolated", choices=("Isolated", "Shared", "L2")
    )
    traffictype: str = param(
        "the traffic type for the network offering. Supported type in current release is GUEST only",
        default="Guest",
        choices=("Guest",),
    )
    supportedservices: list[str] = param("services supported by the network offering", default=())
    serviceproviderlist: list[ServiceProviderEntry] = param(
        "provider to service mapping; a service without one is provided by its default provider",
        default=(),
    )
    servicecapabilitylist: list[CapabilityEntry] = param(
        "desired service capabilities as part of network offering", default=()
    )
    availability: str = param(
        "the availability of network offering. The default value is Optional",
        default="Optional",
        choices=AVAILABILITIES,
    )
    conservemode: bool = param("true if the network offering is IP conserve mode enabled", default=True)
    egressdefaultpolicy: bool = param(
        "true if guest network default egress policy is allow; false if default egress policy is deny", default=False
    )
    ispersistent: bool = param(
        "true if network offering supports persistent networks; defaulted to false if not specified", default=False
    )
    forvpc: bool = param("true if network offering is meant to be used for VPC, false otherwise.", default=False)
    specifyvlan: bool = param("true if network offering supports VLANs", default=False)
    specifyipranges: bool = param(
        "true if network offering supports specifying ip ranges; defaulted to false if not specified", default=False
    )
    networkrate: int | None = param("data transfer rate in megabits per second allowed", default=None, minimum=0)
    serviceofferingid: str | None = param(
        "the service offering ID used by virtual router provider", default=None, entity="ServiceOffering"
    )
    tags: str | None = param("the tags for the network offering.", default=None)
    enable: bool = param(
        "set to true if the offering is to be enabled during creation. Default is false", default=False
    )


@command(
    "createNetworkOffering",
    description="Creates a network offering; networks can use it once it is enabled with updateNetworkOffering",
    params=CreateNetworkOffering,
    response=NetworkOfferingResponse,
    object_name="networkoffering",
    roles=ROOT,
    event="NETWORK.OFFERING.CREATE",
)
def create_network_offering(call: Call, params: CreateNetworkOffering) -> NetworkOfferingResponse:
    _check_kind(params)
    _check_name(call, params.name)
    row = NetworkOffering(
        name=params.name,
        display_text=params.displaytext or params.name,
        guest_ip_type=params.guestiptype,
        traffic_type=params.traffictype,
        state="Enabled" if params.enable else "Disabled",
        availability=params.availability,
        is_persistent=params.ispersistent,
        egress_default_allow=params.egressdefaultpolicy,
        conserve_mode=params.conservemode,
        specify_vlan=params.specifyvlan,
        specify_ip_ranges=params.specifyipranges,
        network_rate=params.networkrate,
        service_offering_id=_router_offering(call, params.serviceofferingid).id,
        services=_services(params),
        tags=params.tags,
    )
    call.session.add(row)
    call.session.flush()
    call.event(f"Successfully created network offering {row.name}", ("NetworkOffering", row.id))
    return _show(call, row)


def _check_kind(params: CreateNetworkOffering) -> None:
    """UnsupportedError for kinds of networks that there are not, ParameterError for what does not go together."""
    if params.guestiptype not in supported.BY_GUEST_TYPE or params.forvpc:
        raise UnsupportedError("only offerings for guestiptype=Isolated and Shared, without forvpc, are supported")
    if params.guestiptype == "Shared":
        if not params.specifyipranges:
            raise ParameterError("specifyipranges must be true: the addresses of shared networks are given")
    elif params.specifyvlan or params.specifyipranges:
        raise UnsupportedError("specifyvlan and specifyipranges go with guestiptype=Shared")


def _check_name(call: Call, name: str) -> None:
    # removed offerings keep their names: networks that had one still show it
    if call.session.scalar(select(NetworkOffering.id).where(NetworkOffering.name == name)) is not None:
        raise ParameterError(f"There is, or was, a network offering with name {name}")


def _router_offering(call: Call, offering_id: str | None) -> ServiceOffering:
    if offering_id is not None:
        offering = call.lookup(ServiceOffering, offering_id, "serviceofferingid")
        if offering.system_vm_type != "domainrouter":
            raise ParameterError(f"serviceofferingid: {offering.name} is not an offering for virtual routers")
        return offering
    statement = select(ServiceOffering).where(
        ServiceOffering.system_vm_type == "domainrouter", ServiceOffering.is_default, ServiceOffering.removed.is_(None)
    )
    return call.session.scalars(statement).one()


def _services(params: CreateNetworkOffering) -> dict[str, Any]:
    """What ``NetworkOffering.services`` holds. Raises ParameterError for what does not exist or does not fit."""
    by_name = {name.lower(): name for name in supported.SERVICES}
    names = [_known(by_name, name, "supportedservices") for name in params.supportedservices]
    try:
        supported.check_dependencies(names)
    except ValueError as error:
        raise ParameterError(f"supportedservices: {error}") from None
    for name in names:
        if name not in supported.BY_GUEST_TYPE[params.guestiptype]:
            raise ParameterError(f"supportedservices: {params.guestiptype} networks have no {name}")
    services = supported.entries(list(dict.fromkeys(names)))
    for entry in params.serviceproviderlist:
        name = _known(by_name, entry.service, "serviceproviderlist")
        if name not in services:
            raise ParameterError(f"serviceproviderlist: {name} is not among supportedservices")
        if entry.provider not in supported.SERVICES[name].providers:
            raise ParameterError(f"serviceproviderlist: provider {entry.provider} does not provide {name}")
    for capability in params.servicecapabilitylist:
        name = _known(by_name, capability.service, "servicecapabilitylist")
        if name not in services:
            raise ParameterError(f"servicecapabilitylist: {name} is not among supportedservices")
        _choose(services[name]["capabilities"], name, capability)
    return services


def _known(by_name: dict[str, str], name: str, parameter: str) -> str:
    if name.lower() not in by_name:
        raise ParameterError(f"{parameter}: there is no service {name}; there are {', '.join(supported.SERVICES)}")
    return by_name[name.lower()]


def _choose(capabilities: dict[str, str], service: str, entry: CapabilityEntry) -> None:
    by_name = {name.lower(): name for name in capabilities}
    name = by_name.get(entry.capabilitytype.lower())
    if name is None:
        raise ParameterError(f"servicecapabilitylist: {service} has no capability {entry.capabilitytype}")
    if entry.capabilityvalue.lower() != capabilities[name].lower():
        raise UnsupportedError(f"{name} of {service} can only be {capabilities[name]}, not {entry.capabilityvalue}")


class UpdateNetworkOffering(Params):
    id: str = param("the id of the network offering", entity="NetworkOffering")
    name: str | None = param("the name of the network offering", default=None)
    displaytext: str | None = param("the display text of the network offering", default=None, length=4096)
    state: str | None = param("update state for the network offering", default=None, choices=STATES)
    availability: str | None = param("the availability of network offering.", default=None, choices=AVAILABILITIES)
    tags: str | None = param("the tags for the network offering.", default=None)


@command(
    "updateNetworkOffering",
    description="Updates a network offering.",
    params=UpdateNetworkOffering,
    response=NetworkOfferingResponse,
    object_name="networkoffering",
    roles=ROOT,
    event="NETWORK.OFFERING.EDIT",
)
def update_network_offering(call: Call, params: UpdateNetworkOffering) -> NetworkOfferingResponse:
    row = call.lookup(NetworkOffering, params.id)
    if params.name is not None and params.name != row.name:
        _check_name(call, params.name)
        row.name = params.name
    row.display_text = params.displaytext or row.display_text
    row.state = params.state or row.state
    row.availability = params.availability or row.availability
    row.tags = params.tags or row.tags
    call.event(f"Successfully updated network offering {row.name}", ("NetworkOffering", row.id))
    return _show(call, row)


class DeleteNetworkOffering(Params):
    id: str = param("the ID of the network offering", entity="NetworkOffering")


@command(
    "deleteNetworkOffering",
    description="Deletes a network offering.",
    params=DeleteNetworkOffering,
    roles=ROOT,
    event="NETWORK.OFFERING.DELETE",
)
def delete_network_offering(call: Call, params: DeleteNetworkOffering) -> Success:
    row = call.lookup(NetworkOffering, params.id)
    if row.is_default:
        raise ParameterError("Default network offering can't be deleted; disable it with updateNetworkOffering")
    used = select(Network.name).where(Network.network_offering_id == row.id, Network.removed.is_(None)).limit(1)
    name = call.session.scalar(used)
    if name is not None:
        raise InUseError(f"network {name} uses the offering; disable it with updateNetworkOffering state=Disabled")
    row.removed = now()
    call.event(f"Successfully deleted network offering {row.name}", ("NetworkOffering", row.id))
    return Success()
