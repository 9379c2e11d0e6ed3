"""Volumes: made, attached, resized, moved and deleted (guide: chapter 13.4)."""

from __future__ import annotations

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from controlplane import jobs
from controlplane.api import guests, listing, tagging
from controlplane.api.call import Call
from controlplane.api.command import (
    ADMINS,
    ROOT,
    ROOT_ADMIN,
    Async,
    Params,
    ScopedListParams,
    Success,
    answer,
    command,
    param,
)
from controlplane.api.tagging import TagEntry
from controlplane.api.views.volumes import VolumeResponse, show_volumes
from controlplane.compute import vms
from controlplane.errors import InUseError, ParameterError
from controlplane.network import limits
from controlplane.storage import volumes
from controlplane.storage.settings import LARGEST, PRIMARY, VOLUMES
from controlplane.store.models import (
    Account,
    AsyncJob,
    DiskOffering,
    Host,
    Snapshot,
    StoragePool,
    Vm,
    Volume,
    Zone,
    now,
)


class VolumeId(Params):
    """The id of a volume."""

    id: str = param("id of the volume", entity="Volume")


class ListVolumes(ScopedListParams):
    id: str | None = param("id of the volume", default=None, entity="Volume")
    ids: list[str] | None = param("ids of volumes", default=None)
    name: str | None = param("name of the volume", default=None)
    type: str | None = param("ROOT or DATADISK", default=None, choices=("ROOT", "DATADISK"))
    state: str | None = param("volumes in this state, e.g. Ready", default=None)
    virtualmachineid: str | None = param("volumes of this VM", default=None, entity="UserVm")
    diskofferingid: str | None = param("volumes of this offering", default=None, entity="DiskOffering")
    zoneid: str | None = param("volumes of this zone", default=None, entity="Zone")
    podid: str | None = param("volumes of VMs of this pod", default=None, entity="Pod")
    hostid: str | None = param("volumes of VMs on this host", default=None, entity="Host")
    storageid: str | None = param("volumes in this storage pool, for root administrators", default=None, entity="Pool")
    displayvolume: bool | None = param("volumes that are, or are not, shown to their owners", default=None)
    tags: list[TagEntry] | None = param("volumes with all of these tags", default=None)


@command(
    "listVolumes",
    description="Lists volumes",
    params=ListVolumes,
    response=VolumeResponse,
    object_name="volume",
)
def list_volumes(call: Call, params: ListVolumes) -> tuple[int, list[VolumeResponse]]:
    statement = select(Volume).where(Volume.removed.is_(None)).order_by(Volume.created, Volume.id)
    by_id = params.id is not None or params.ids is not None
    statement = listing.scope(call, statement, Volume.account_id, params, by_id=by_id)
    statement = listing.displayed(call, statement, Volume.for_display, params.displayvolume)
    for column, value in (
        (Volume.id, params.id),
        (Volume.name, params.name),
        (Volume.type, params.type),
        (Volume.vm_id, params.virtualmachineid),
        (Volume.disk_offering_id, params.diskofferingid),
        (Volume.zone_id, params.zoneid),
        (Volume.pool_id, params.storageid if call.is_root else None),
    ):
        if value is not None:
            statement = statement.where(column == value)
    if params.ids is not None:
        statement = statement.where(Volume.id.in_(params.ids))
    if params.state is not None:
        statement = statement.where(func.lower(Volume.state) == params.state.lower())
    if params.hostid is not None:
        statement = statement.where(Volume.vm_id.in_(select(Vm.id).where(Vm.host_id == params.hostid)))
    if params.podid is not None:
        on_pod = select(Vm.id).join(Host, Host.id == Vm.host_id).where(Host.cluster.has(pod_id=params.podid))
        statement = statement.where(Volume.vm_id.in_(on_pod))
    statement = tagging.with_tags(statement, "Volume", Volume.id, params.tags)
    statement = listing.search(statement, params.keyword, Volume.name)
    return listing.fetch(call, statement, params, lambda rows: show_volumes(call.session, rows, for_root=call.is_root))


class CreateVolume(Params):
    name: str | None = param("name of the volume; made from its kind and time unless given", default=None)
    zoneid: str | None = param("its zone; that of the snapshot or VM unless given", default=None, entity="Zone")
    diskofferingid: str | None = param(
        "its disk offering; without a snapshot it is needed", default=None, entity="DiskOffering"
    )
    size: int | None = param("GiB, for customized offerings, or more than the snapshot has", default=None, minimum=1)
    snapshotid: str | None = param("make it of this snapshot", default=None, entity="Snapshot")
    virtualmachineid: str | None = param("attach it to this VM", default=None, entity="UserVm")
    account: str | None = param("owner of the volume; needs domainid", default=None)
    domainid: str | None = param("domain of the owner", default=None, entity="Domain")
    displayvolume: bool = param("show it to its owner", default=True)


@command(
    "createVolume",
    description="Creates a data volume; of an offering alone, its file is made when it is attached first",
    params=CreateVolume,
    response=VolumeResponse,
    object_name="volume",
    is_async=True,
    creates=True,
    event="VOLUME.CREATE",
)
def create_volume(call: Call, params: CreateVolume) -> Async:
    session = call.session
    owner = call.owner(params.account, params.domainid)
    snapshot = _snapshot(call, params.snapshotid)
    vm = guests.find(call, params.virtualmachineid, "virtualmachineid") if params.virtualmachineid else None
    zone_id = params.zoneid or (snapshot.zone_id if snapshot else vm.zone_id if vm else None)
    if zone_id is None:
        raise ParameterError("zoneid: say in which zone the volume is to be")
    zone = call.lookup(Zone, zone_id, "zoneid")
    if snapshot is not None and snapshot.zone_id != zone.id:
        raise ParameterError(f"zoneid: snapshot {snapshot.name} is in another zone")
    offering = call.lookup(DiskOffering, params.diskofferingid, "diskofferingid") if params.diskofferingid else None
    largest = call.configuration.get_int(session, LARGEST)
    if offering is not None:
        size = volumes.size_of(offering, params.size, largest)
    elif snapshot is None:
        raise ParameterError("diskofferingid: give a disk offering, or a snapshot")
    else:
        size = min(params.size or 0, largest) * volumes.GIB or snapshot.size
    if snapshot is not None and size < snapshot.size:
        raise ParameterError(
            f"size: snapshot {snapshot.name} has {snapshot.size} bytes; a volume of it cannot have less"
        )
    check_room(call, owner, size)
    name = params.name or f"DATA-{now():%Y%m%d%H%M%S}"
    volume = volumes.create_data(session, name, owner, zone, offering=offering, size=size, snapshot=snapshot)
    volume.for_display = params.displayvolume
    workflow = "make_volume" if snapshot is not None else None
    if vm is not None:
        _attach(call, volume, vm, None)
        workflow = "attach_volume"
    return flow(volume, f"creating volume {volume.name}", workflow)


def _snapshot(call: Call, id: str | None) -> Snapshot | None:
    if id is None:
        return None
    snapshot = call.lookup(Snapshot, id, "snapshotid")
    if snapshot.state != "BackedUp":
        raise ParameterError(f"snapshotid: snapshot {snapshot.name} is {snapshot.state}, which must be BackedUp")
    return snapshot


def check_room(call: Call, owner: Account, size: int, *, number: int = 1) -> None:
    """Raise LimitError unless the account may have ``number`` more volumes, with ``size`` bytes together."""
    if number:
        call.check_limit(owner, VOLUMES, limits.used(call.session, owner, VOLUMES), number)
    more = -(-size >> 30)
    if more > 0:
        call.check_limit(owner, PRIMARY, limits.used(call.session, owner, PRIMARY), more)


def flow(volume: Volume, description: str, workflow: str | None, **arguments: object) -> Async:
    """The answer of a command that a workflow carries out, or that is done already."""
    return answer("Volume", volume.id, "volume", description, workflow, **arguments)


@jobs.completion("volume.show")
def show_volume(session: Session, job: AsyncJob, volume_id: str) -> VolumeResponse:
    """A volume as the result of a job."""
    volume = session.get_one(Volume, volume_id)
    session.refresh(volume)
    for_root = session.get_one(Account, job.account_id).type == ROOT_ADMIN
    return show_volumes(session, [volume], for_root=for_root)[0]


class AttachVolume(VolumeId):
    virtualmachineid: str = param("id of the VM", entity="UserVm")
    deviceid: int | None = param("its number in the VM; the next free one", default=None)


@command(
    "attachVolume",
    description="Attaches a data volume to a VM, also while it runs",
    params=AttachVolume,
    response=VolumeResponse,
    object_name="volume",
    is_async=True,
    event="VOLUME.ATTACH",
)
def attach_volume(call: Call, params: AttachVolume) -> Async:
    volume = call.lookup(Volume, params.id)
    vm = guests.find(call, params.virtualmachineid, "virtualmachineid")
    _attach(call, volume, vm, params.deviceid)
    return flow(volume, f"attaching volume {volume.name} to VM {vm.name}", "attach_volume")


def _attach(call: Call, volume: Volume, vm: Vm, device: int | None) -> None:
    if volume.vm_id is not None:
        raise ParameterError(f"id: volume {volume.name} is attached already; detach it first")
    volumes.need_settled(call.session, volume, "attach")
    vms.need_state(vm, "Running", "Stopped", to="attach a volume to")
    if vm.zone_id != volume.zone_id:
        raise ParameterError(f"id: volume {volume.name} is in another zone than the virtual machine")
    if vm.account_id != volume.account_id:
        raise ParameterError(f"id: volume {volume.name} belongs to another account than the virtual machine")
    volumes.attach(call.session, volume, vm, device)


class DetachVolume(Params):
    id: str | None = param("id of the volume", default=None, entity="Volume")
    virtualmachineid: str | None = param("its VM, with deviceid in place of id", default=None, entity="UserVm")
    deviceid: int | None = param("its number in the VM", default=None)


@command(
    "detachVolume",
    description="Detaches a data volume from its VM, also while it runs",
    params=DetachVolume,
    response=VolumeResponse,
    object_name="volume",
    is_async=True,
    event="VOLUME.DETACH",
)
def detach_volume(call: Call, params: DetachVolume) -> Async:
    volume = _to_detach(call, params)
    if volume.vm is None:
        raise ParameterError(f"id: volume {volume.name} is not attached")
    if volume.type == "ROOT":
        raise ParameterError(f"id: {volume.name} is a root volume, which stays with its virtual machine")
    volumes.need_settled(call.session, volume, "detach")
    vms.need_state(volume.vm, "Running", "Stopped", "Destroyed", "Error", to="detach a volume from")
    volume.state = "Detaching"
    return flow(volume, f"detaching volume {volume.name} from VM {volume.vm.name}", "detach_volume")


def _to_detach(call: Call, params: DetachVolume) -> Volume:
    if params.id is not None:
        return call.lookup(Volume, params.id)
    if params.virtualmachineid is None or params.deviceid is None:
        raise ParameterError("id: give the volume's id, or virtualmachineid and deviceid")
    vm = call.lookup(Vm, params.virtualmachineid, "virtualmachineid")
    found = next((row for row in volumes.of_vm(call.session, vm.id) if row.device_id == params.deviceid), None)
    if found is None:
        raise ParameterError(f"deviceid: virtual machine {vm.name} has no volume number {params.deviceid}")
    return found


class ResizeVolume(VolumeId):
    diskofferingid: str | None = param("its new disk offering", default=None, entity="DiskOffering")
    size: int | None = param("its new GiB; with an offering only for a customized one", default=None, minimum=1)
    shrinkok: bool = param("make it smaller: what is cut off is lost", default=False)


@command(
    "resizeVolume",
    description="Changes a volume's size; it may grow while its VM runs",
    params=ResizeVolume,
    response=VolumeResponse,
    object_name="volume",
    is_async=True,
    event="VOLUME.RESIZE",
)
def resize_volume(call: Call, params: ResizeVolume) -> Async:
    volume = call.lookup(Volume, params.id)
    volumes.need_settled(call.session, volume, "resize")
    if volume.type == "ROOT":
        volumes.need_disk(volume)
    size, offering = _new_size(call, params, volume)
    if size < volume.size:
        if not params.shrinkok:
            raise ParameterError(
                f"size: volume {volume.name} has {volume.size} bytes, and what is cut off would be lost; shrinkok=true "
                "says that this is wanted"
            )
        if volume.vm is not None and volume.vm.state != "Stopped":
            raise ParameterError(f"size: stop virtual machine {volume.vm.name} before its volume is made smaller")
    check_room(call, volume.account, size - volume.size, number=0)
    volume.state = "Resizing"
    return flow(
        volume,
        f"resizing volume {volume.name} to {size} bytes",
        "resize_volume",
        size=size,
        shrink=params.shrinkok,
        disk_offering_id=offering,
    )


def _new_size(call: Call, params: ResizeVolume, volume: Volume) -> tuple[int, str | None]:
    largest = call.configuration.get_int(call.session, LARGEST)
    if params.diskofferingid is not None:
        if volume.type == "ROOT":
            raise ParameterError("diskofferingid: a root volume has none; give size")
        offering = call.lookup(DiskOffering, params.diskofferingid, "diskofferingid")
        old = volume.disk_offering
        if old is not None and (old.tags or "") != (offering.tags or ""):
            raise ParameterError(f"diskofferingid: {offering.name} is for storage with other tags than the volume's")
        return volumes.size_of(offering, params.size, largest), offering.id
    if params.size is None:
        raise ParameterError("size: give the new size, or a disk offering that has one")
    if volume.disk_offering is not None and not volume.disk_offering.is_customized:
        raise ParameterError(f"size: disk offering {volume.disk_offering.name} has a size of its own; give another one")
    if params.size > largest:
        raise ParameterError(f"size: a volume may have {largest} GiB ({LARGEST})")
    return params.size * volumes.GIB, volume.disk_offering_id


class MigrateVolume(Params):
    volumeid: str = param("id of the volume", entity="Volume")
    storageid: str = param("the storage pool that it goes to", entity="Pool")
    livemigrate: bool = param("not supported: the VM must be stopped", default=False)


@command(
    "migrateVolume",
    description="Moves a volume to another storage pool; its VM must be stopped",
    params=MigrateVolume,
    response=VolumeResponse,
    object_name="volume",
    roles=ROOT,
    is_async=True,
    event="VOLUME.MIGRATE",
)
def migrate_volume(call: Call, params: MigrateVolume) -> Async:
    volume = call.lookup(Volume, params.volumeid, "volumeid")
    pool = call.lookup(StoragePool, params.storageid, "storageid")
    volumes.need_settled(call.session, volume, "migrate")
    volumes.need_disk(volume)
    if volume.pool_id == pool.id:
        raise ParameterError(f"storageid: volume {volume.name} is in storage pool {pool.name} already")
    if pool.zone_id != volume.zone_id:
        raise ParameterError(f"storageid: storage pool {pool.name} is in another zone than the volume")
    if pool.state != "Up":
        raise ParameterError(f"storageid: storage pool {pool.name} is in state {pool.state}")
    if volume.vm is not None and volume.vm.state != "Stopped":
        raise ParameterError(f"volumeid: stop virtual machine {volume.vm.name} first, or detach the volume")
    volume.state = "Migrating"
    return flow(volume, f"moving volume {volume.name} to storage pool {pool.name}", "migrate_volume", pool_id=pool.id)


class DestroyVolume(VolumeId):
    expunge: bool = param("free its space at once", default=False)


def _check_deletable(call: Call, volume: Volume) -> None:
    if volume.type == "ROOT":
        raise ParameterError(f"id: {volume.name} is a root volume, which goes with its virtual machine")
    if volume.vm is not None:
        raise InUseError(f"volume {volume.name} is attached to virtual machine {volume.vm.name}; detach it first")
    if volume.state not in ("Uploading", "UploadError", "UploadAbandoned"):
        volumes.need_settled(call.session, volume, "delete")


@command(
    "deleteVolume",
    description="Deletes a data volume that is not attached; its snapshots stay",
    params=VolumeId,
    event="VOLUME.DELETE",
)
def delete_volume(call: Call, params: VolumeId) -> Success:
    volume = call.lookup(Volume, params.id)
    if volume.state != "Destroy":
        _check_deletable(call, volume)
    # housekeeping removes the file, which may be large
    volume.state, volume.destroyed = "Expunging", now()
    call.event(f"deleted volume {volume.name}", ("Volume", volume.id), account_id=volume.account_id)
    call.after_commit(lambda: call.runtime.hurry("expunge.interval"))
    return Success()


@command(
    "destroyVolume",
    description="Deletes a data volume that is not attached; it can be recovered for expunge.delay seconds",
    params=DestroyVolume,
    response=VolumeResponse,
    object_name="volume",
    is_async=True,
    event="VOLUME.DESTROY",
)
def destroy_volume(call: Call, params: DestroyVolume) -> Async:
    volume = call.lookup(Volume, params.id)
    if volume.state != "Destroy":
        _check_deletable(call, volume)
    volume.state, volume.destroyed = "Destroy", volume.destroyed or now()
    return flow(volume, f"destroying volume {volume.name}", "delete_volume" if params.expunge else None)


@command(
    "recoverVolume",
    description="Takes back the destruction of a volume",
    params=VolumeId,
    response=VolumeResponse,
    object_name="volume",
    event="VOLUME.RECOVER",
)
def recover_volume(call: Call, params: VolumeId) -> VolumeResponse:
    volume = call.lookup(Volume, params.id)
    if volume.state != "Destroy" or volume.type == "ROOT":
        raise ParameterError(f"id: volume {volume.name} is {volume.state}; a data volume in state Destroy is recovered")
    check_room(call, volume.account, volume.size)
    volume.state, volume.destroyed = volumes.settled(volume), None
    call.event(f"recovered volume {volume.name}", ("Volume", volume.id), account_id=volume.account_id)
    return show_volumes(call.session, [volume], for_root=call.is_root)[0]


class UpdateVolume(VolumeId):
    name: str | None = param("its new name", default=None)
    displayvolume: bool | None = param("show it to its owner", default=None)


@command(
    "updateVolume",
    description="Changes a volume's name",
    params=UpdateVolume,
    response=VolumeResponse,
    object_name="volume",
    is_async=True,
    event="VOLUME.UPDATE",
)
def update_volume(call: Call, params: UpdateVolume) -> Async:
    volume = call.lookup(Volume, params.id)
    volume.name = params.name or volume.name
    if params.displayvolume is not None:
        if call.account.type not in ADMINS:
            raise ParameterError("displayvolume: administrators say what is shown")
        volume.for_display = params.displayvolume
    return flow(volume, f"updating volume {volume.name}", None)
