"""Ranges of the storage network, by which secondary-storage VMs reach image stores (guide: chapter 2.8, "Storage")."""

from __future__ import annotations

from contextlib import nullcontext, suppress
from functools import partial

from sqlalchemy import select
from sqlalchemy.orm import Session

from controlplane.api import listing
from controlplane.api.call import Call
from controlplane.api.command import ROOT, Async, ListParams, Params, Response, command, param, shown
from controlplane.convergence.roles import desire_setting
from controlplane.errors import CapacityError
from controlplane.imagestores.shares import ROLE
from controlplane.jobs import completion
from controlplane.network import ranges, storagenetwork
from controlplane.store.models import AsyncJob, Pod, StorageIpRange, Zone
from controlplane.systemvms import rows as systemvms


class StorageIpRangeResponse(Response):
    id: str = shown("the uuid of storage network IP range.", ...)
    vlan: str = shown("the ID or VID of the VLAN.", ...)
    podid: str = shown("the Pod uuid for the storage network IP range", ...)
    startip: str = shown("the start ip of the storage network IP range", ...)
    endip: str = shown("the end ip of the storage network IP range", ...)
    gateway: str = shown("the gateway of the storage network IP range", ...)
    netmask: str = shown("the netmask of the storage network IP range", ...)
    networkid: str = shown("the physical network that carries it", ...)
    zoneid: str = shown("the Zone uuid of the storage network IP range", ...)


def _show(row: StorageIpRange) -> StorageIpRangeResponse:
    return StorageIpRangeResponse(
        id=row.id,
        vlan=row.vlan,
        podid=row.pod_id,
        startip=row.start_ip,
        endip=row.end_ip,
        gateway=row.gateway,
        netmask=row.netmask,
        networkid=row.physical_network_id,
        zoneid=row.zone_id,
    )


@completion("storagenetwork.show")
def _shown(session: Session, job: AsyncJob, id: str) -> StorageIpRangeResponse:
    return _show(session.get_one(StorageIpRange, id))


def _settle(call: Call, zone_id: str, *, all: bool = True) -> None:
    """The zone's SSVMs take what addresses there are now, and their places on the network, while they run.

    Raises CapacityError when these are too few for ``all`` of them.
    """
    with nullcontext() if all else suppress(CapacityError):
        for appliance in systemvms.of_zone(call.session, zone_id, ROLE):
            storagenetwork.take_address(call.session, appliance)
    for appliance_id in desire_setting(call.session, "secstorage.", zone_id):
        call.after_commit(partial(call.runtime.wake, appliance_id))


class ListStorageIpRanges(ListParams):
    id: str | None = param(
        "the range with this uuid",
        default=None,
        entity="StorageNetworkIpRange",
    )
    podid: str | None = param("ranges of this pod", default=None, entity="Pod")
    zoneid: str | None = param("ranges of this zone", default=None, entity="Zone")


@command(
    "listStorageNetworkIpRange",
    description="List a storage network IP range.",
    params=ListStorageIpRanges,
    response=StorageIpRangeResponse,
    object_name="storagenetworkiprange",
    roles=ROOT,
)
def list_ranges(call: Call, params: ListStorageIpRanges) -> tuple[int, list[StorageIpRangeResponse]]:
    statement = select(StorageIpRange)
    if params.id is not None:
        statement = statement.where(StorageIpRange.id == call.lookup(StorageIpRange, params.id).id)
    if params.podid is not None:
        statement = statement.where(StorageIpRange.pod_id == call.lookup(Pod, params.podid, "podid").id)
    if params.zoneid is not None:
        statement = statement.where(StorageIpRange.zone_id == call.lookup(Zone, params.zoneid, "zoneid").id)
    statement = listing.search(statement, params.keyword, StorageIpRange.vlan, StorageIpRange.start_ip)
    statement = statement.order_by(StorageIpRange.created, StorageIpRange.id)
    return listing.fetch(call, statement, params, lambda rows: [_show(row) for row in rows])


class CreateStorageIpRange(Params):
    podid: str = param("UUID of pod where the ip range belongs to", entity="Pod")
    startip: str = param("the beginning IP address")
    endip: str | None = param("the ending IP address; startip unless given", default=None)
    gateway: str = param(
        "the gateway for storage network: image stores outside of the range's subnet are reached by it"
    )
    netmask: str = param("the netmask for storage network")
    vlan: str | None = param("the vlan the ip range sits on; untagged unless given", default=None)


@command(
    "createStorageNetworkIpRange",
    description="Creates a Storage network IP range; secondary storage VMs reach image stores by it from then on",
    params=CreateStorageIpRange,
    response=StorageIpRangeResponse,
    object_name="storagenetworkiprange",
    roles=ROOT,
    is_async=True,
    event="STORAGE.IP.RANGE.CREATE",
)
def create_range(call: Call, params: CreateStorageIpRange) -> Async:
    pod = call.lookup(Pod, params.podid, "podid")
    zone = call.session.get_one(Zone, pod.zone_id)
    row = StorageIpRange(
        zone_id=zone.id,
        pod_id=pod.id,
        physical_network_id=storagenetwork.physical_network(call.session, zone).id,
        vlan=ranges.parse_vlan(params.vlan),
        gateway=params.gateway,
        netmask=params.netmask,
        start_ip=params.startip,
        end_ip=params.endip or params.startip,
    )
    storagenetwork.check(call.session, row)
    call.session.add(row)
    call.session.flush()
    # the next one may bring what is missing
    _settle(call, zone.id, all=False)
    return _answer(row, "creating")


def _answer(row: StorageIpRange, doing: str) -> Async:
    return Async(
        "StorageNetworkIpRange",
        row.id,
        f"{doing} storage network range {row.start_ip}-{row.end_ip}",
        completion="storagenetwork.show",
        arguments={"id": row.id},
    )


class UpdateStorageIpRange(Params):
    id: str = param("UUID of storage network ip range", entity="StorageNetworkIpRange")
    startip: str | None = param("the beginning IP address", default=None)
    endip: str | None = param("the ending IP address", default=None)
    netmask: str | None = param("the netmask for the storage network", default=None)
    vlan: str | None = param("the vlan the ip range sits on", default=None)


@command(
    "updateStorageNetworkIpRange",
    description="Update a Storage network IP range; addresses that are in use must stay in it",
    params=UpdateStorageIpRange,
    response=StorageIpRangeResponse,
    object_name="storagenetworkiprange",
    roles=ROOT,
    is_async=True,
    event="STORAGE.IP.RANGE.UPDATE",
)
def update_range(call: Call, params: UpdateStorageIpRange) -> Async:
    row = call.lookup(StorageIpRange, params.id)
    row.start_ip = params.startip or row.start_ip
    row.end_ip = params.endip or row.end_ip
    row.netmask = params.netmask or row.netmask
    if params.vlan is not None:
        row.vlan = ranges.parse_vlan(params.vlan)
    storagenetwork.check(call.session, row)
    call.session.flush()
    _settle(call, row.zone_id)
    return _answer(row, "updating")


class DeleteStorageIpRange(Params):
    id: str = param("the uuid of the storage network ip range", entity="StorageNetworkIpRange")


@command(
    "deleteStorageNetworkIpRange",
    description="Deletes a storage network IP Range; what used it takes an address of another one, or does without",
    params=DeleteStorageIpRange,
    roles=ROOT,
    is_async=True,
    event="STORAGE.IP.RANGE.DELETE",
)
def delete_range(call: Call, params: DeleteStorageIpRange) -> Async:
    row = call.lookup(StorageIpRange, params.id)
    doing, zone_id = f"deleting storage network range {row.start_ip}-{row.end_ip}", row.zone_id
    storagenetwork.delete_range(call.session, row)
    _settle(call, zone_id)
    return Async("StorageNetworkIpRange", params.id, doing)
