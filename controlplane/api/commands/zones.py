"""Zones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import select

from controlplane.api import listing
from controlplane.api.call import Call
from controlplane.api.command import ROOT, ListParams, Params, Response, Success, command, param, shown
from controlplane.convergence import desired
from controlplane.errors import InUseError, ParameterError
from controlplane.network import addressing
from controlplane.storage import pools
from controlplane.store.models import (
    Appliance,
    Cluster,
    Host,
    ImageStore,
    Network,
    PhysicalNetwork,
    Pod,
    PublicIp,
    Snapshot,
    StoragePool,
    StoredImage,
    Template,
    VlanIpRange,
    Vm,
    Volume,
    Zone,
)

STATES = ("Enabled", "Disabled")


class ZoneResponse(Response):
    id: str = shown("Zone id", ...)
    name: str = shown("Zone name", ...)
    dns1: str = shown("the first DNS for the Zone", ...)
    dns2: str | None = shown("the second DNS for the Zone")
    internaldns1: str = shown("the first internal DNS for the Zone", ...)
    internaldns2: str | None = shown("the second internal DNS for the Zone")
    guestcidraddress: str = shown("the guest CIDR address for the Zone", ...)
    domain: str | None = shown("Network domain name for the networks in the zone")
    networktype: str = shown("the network type of the zone; can be Basic or Advanced", ...)
    securitygroupsenabled: bool = shown("true if security groups support is enabled, false otherwise", False)
    allocationstate: str = shown("the allocation state of the cluster", ...)
    zonetoken: str = shown("Zone Token", ...)
    dhcpprovider: str = shown("the dhcp Provider for the Zone", "VirtualRouter")
    localstorageenabled: bool = shown("true if local storage offering enabled, false otherwise", True)
    type: str = shown("the type of the zone - core or edge", "Core")
    tags: list[Any] = shown("the list of resource tags associated with zone", [])


def show_zones(zones: Sequence[Zone]) -> list[ZoneResponse]:
    return [
        ZoneResponse(
            id=zone.id,
            name=zone.name,
            dns1=zone.dns1,
            dns2=zone.dns2,
            internaldns1=zone.internal_dns1,
            internaldns2=zone.internal_dns2,
            guestcidraddress=zone.guest_cidr,
            domain=zone.domain,
            networktype=zone.network_type,
            securitygroupsenabled=zone.security_groups,
            allocationstate=zone.allocation_state,
            zonetoken=zone.id,
        )
        for zone in zones
    ]


class ListZones(ListParams):
    id: str | None = param("the ID of the zone", default=None, entity="Zone")
    name: str | None = param("the name of the zone", default=None)
    networktype: str | None = param("the network type of the zone that the virtual machine belongs to", default=None)
    available: bool = param(
        "true to list all zones, false for those in which the caller has virtual machines", default=True
    )


@command("listZones", description="Lists zones", params=ListZones, response=ZoneResponse, object_name="zone")
def list_zones(call: Call, params: ListZones) -> tuple[int, list[ZoneResponse]]:
    statement = select(Zone)
    if not call.is_root:
        statement = statement.where(Zone.allocation_state == "Enabled")
    if params.id is not None:
        statement = statement.where(Zone.id == call.lookup(Zone, params.id).id)
    if params.name is not None:
        statement = statement.where(Zone.name == params.name)
    if params.networktype is not None:
        statement = statement.where(Zone.network_type == params.networktype.capitalize())
    if not params.available:
        own = select(Vm.zone_id).where(Vm.account_id == call.account.id, Vm.removed.is_(None))
        statement = statement.where(Zone.id.in_(own))
    statement = listing.search(statement, params.keyword, Zone.name).order_by(Zone.name)
    return listing.fetch(call, statement, params, show_zones)


class CreateZone(Params):
    name: str = param("the name of the Zone")
    networktype: str = param("network type of the zone, can be Basic or Advanced", choices=("Advanced", "Basic"))
    dns1: str = param("the first DNS for the Zone")
    dns2: str | None = param("the second DNS for the Zone", default=None)
    internaldns1: str = param("the first internal DNS for the Zone")
    internaldns2: str | None = param("the second internal DNS for the Zone", default=None)
    guestcidraddress: str = param("the guest CIDR address for the Zone", default="10.1.1.0/24", length=18)
    domain: str | None = param("Network domain name for the networks in the zone", default=None)
    securitygroupenabled: bool = param("shared networks may have security groups, for good", default=False)
    allocationstate: str = param("Allocation state of this Zone", default="Enabled", choices=STATES)


@command(
    "createZone",
    description="Creates a Zone",
    params=CreateZone,
    response=ZoneResponse,
    object_name="zone",
    roles=ROOT,
    event="ZONE.CREATE",
)
def create_zone(call: Call, params: CreateZone) -> ZoneResponse:
    _check_name(call, params.name)
    zone = Zone(
        name=params.name,
        network_type=params.networktype,
        dns1=str(addressing.parse_address("dns1", params.dns1)),
        dns2=_optional("dns2", params.dns2),
        internal_dns1=str(addressing.parse_address("internaldns1", params.internaldns1)),
        internal_dns2=_optional("internaldns2", params.internaldns2),
        guest_cidr=_guest_cidr(params.guestcidraddress),
        security_groups=params.securitygroupenabled,
        domain=addressing.parse_domain("domain", params.domain or ""),
        allocation_state=params.allocationstate,
    )
    call.session.add(zone)
    call.session.flush()
    pools.extend(call.session, zone.id)
    call.event(f"Successfully created zone {zone.name}", ("Zone", zone.id))
    return show_zones([zone])[0]


def _check_name(call: Call, name: str) -> None:
    if call.session.scalar(select(Zone.id).where(Zone.name == name)) is not None:
        raise ParameterError(f"A zone with name {name} already exists")


def _optional(parameter: str, value: str | None) -> str | None:
    return str(addressing.parse_address(parameter, value)) if value is not None else None


def _guest_cidr(value: str) -> str:
    cidr = addressing.parse_cidr("guestcidraddress", value)
    if not 16 <= cidr.prefixlen <= 29:
        raise ParameterError("guestcidraddress must have a prefix length from 16 to 29")
    return str(cidr)


class UpdateZone(Params):
    id: str = param("the ID of the Zone", entity="Zone")
    name: str | None = param("the name of the Zone", default=None)
    dns1: str | None = param("the first DNS for the Zone", default=None)
    dns2: str | None = param("the second DNS for the Zone", default=None)
    internaldns1: str | None = param("the first internal DNS for the Zone", default=None)
    internaldns2: str | None = param("the second internal DNS for the Zone", default=None)
    guestcidraddress: str | None = param("the guest CIDR address for the Zone", default=None, length=18)
    domain: str | None = param(
        "Network domain name for the networks in the zone; empty to clear", default=None, clears=True
    )
    allocationstate: str | None = param("Allocation state of this Zone", default=None, choices=STATES)


@command(
    "updateZone",
    description="Updates a Zone; its routers take new DNS servers at once",
    params=UpdateZone,
    response=ZoneResponse,
    object_name="zone",
    roles=ROOT,
    event="ZONE.EDIT",
)
def update_zone(call: Call, params: UpdateZone) -> ZoneResponse:
    zone = call.lookup(Zone, params.id)
    before = (zone.dns1, zone.dns2, zone.name)
    if params.name is not None and params.name != zone.name:
        _check_name(call, params.name)
        zone.name = params.name
    zone.dns1 = _optional("dns1", params.dns1) or zone.dns1
    zone.dns2 = _optional("dns2", params.dns2) or zone.dns2
    zone.internal_dns1 = _optional("internaldns1", params.internaldns1) or zone.internal_dns1
    zone.internal_dns2 = _optional("internaldns2", params.internaldns2) or zone.internal_dns2
    if params.guestcidraddress is not None:
        zone.guest_cidr = _guest_cidr(params.guestcidraddress)
    if params.domain is not None:
        zone.domain = addressing.parse_domain("domain", params.domain)
    zone.allocation_state = params.allocationstate or zone.allocation_state
    if (zone.dns1, zone.dns2, zone.name) != before:
        _push_to_routers(call, zone)
    call.event(f"Successfully updated zone {zone.name}", ("Zone", zone.id))
    return show_zones([zone])[0]


def _push_to_routers(call: Call, zone: Zone) -> None:
    """Resolvers and the zone's name are part of every router's document."""
    call.session.flush()
    routers = select(Appliance.id).where(Appliance.zone_id == zone.id, Appliance.removed.is_(None))
    for appliance_id in call.session.scalars(routers).all():
        desired.desire(call.session, appliance_id)
        call.after_commit(lambda appliance_id=appliance_id: call.runtime.wake(appliance_id))  # type: ignore[misc]


class DeleteZone(Params):
    id: str = param("the ID of the Zone", entity="Zone")


@command("deleteZone", description="Deletes a Zone", params=DeleteZone, roles=ROOT, event="ZONE.DELETE")
def delete_zone(call: Call, params: DeleteZone) -> Success:
    zone = call.lookup(Zone, params.id)
    session = call.session
    # what is removed keeps its zone, so a zone that was ever used stays
    for what, column in (
        ("virtual machines, now or in the past", Vm.zone_id),
        ("networks, now or in the past", Network.zone_id),
        ("routers, now or in the past", Appliance.zone_id),
        ("templates, now or in the past", Template.zone_id),
        ("copies of templates, now or in the past", StoredImage.zone_id),
        ("image stores, now or in the past", ImageStore.zone_id),
        ("public addresses in use", PublicIp.zone_id),
        ("public IP ranges", VlanIpRange.zone_id),
        ("physical networks", PhysicalNetwork.zone_id),
        ("volumes, now or in the past", Volume.zone_id),
        ("snapshots, now or in the past", Snapshot.zone_id),
    ):
        if session.scalar(select(column).where(column == zone.id).limit(1)) is not None:
            raise InUseError(
                f"Zone {zone.name} has {what}; delete them first, or disable the zone (allocationstate=Disabled)"
            )
    host = select(Host.id).join(Cluster).join(Pod).where(Pod.zone_id == zone.id)
    if session.scalar(host.limit(1)) is not None:
        raise InUseError(f"Zone {zone.name} has hosts; a zone with hosts stays")
    for pod in session.scalars(select(Pod).where(Pod.zone_id == zone.id)).all():
        for cluster in session.scalars(select(Cluster).where(Cluster.pod_id == pod.id)).all():
            session.delete(cluster)
        session.flush()
        session.delete(pod)
    for pool in session.scalars(select(StoragePool).where(StoragePool.zone_id == zone.id)).all():
        session.delete(pool)
    session.flush()
    session.delete(zone)
    call.event(f"Successfully deleted zone {zone.name}", ("Zone", zone.id))
    return Success()
