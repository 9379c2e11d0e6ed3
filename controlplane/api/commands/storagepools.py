"""Storage pools: directories that the hosts of a zone share (guide: chapter 13.2)."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from sqlalchemy import select
from sqlalchemy.orm import Session

from controlplane import jobs
from controlplane.api import listing
from controlplane.api.call import Call
from controlplane.api.command import ADMINS, ROOT, Async, ListParams, Params, Success, command, param
from controlplane.api.views.volumes import StoragePoolResponse
from controlplane.configuration import Configuration
from controlplane.errors import InUseError, ParameterError
from controlplane.storage import pools
from controlplane.storage.settings import OVERPROVISIONING
from controlplane.store.models import AsyncJob, Snapshot, StoragePool, Volume, Zone, now

SCHEMES = ("file", "sharedmountpoint")


class ListStoragePools(ListParams):
    id: str | None = param("the ID of the storage pool", default=None, entity="StoragePool")
    name: str | None = param("the name of the storage pool", default=None)
    path: str | None = param("the storage pool path", default=None)
    zoneid: str | None = param("the Zone ID for the storage pool", default=None, entity="Zone")
    scope: str | None = param("the scope of the storage pool: ZONE", default=None)


@command(
    "listStoragePools",
    description="Lists storage pools.",
    params=ListStoragePools,
    response=StoragePoolResponse,
    object_name="storagepool",
    roles=ADMINS,
)
def list_storage_pools(call: Call, params: ListStoragePools) -> tuple[int, list[StoragePoolResponse]]:
    if params.scope is not None and params.scope.lower() != "zone":
        return 0, []
    statement = select(StoragePool).where(StoragePool.removed.is_(None))
    for column, value in (
        (StoragePool.id, params.id),
        (StoragePool.name, params.name),
        (StoragePool.path, params.path),
        (StoragePool.zone_id, params.zoneid),
    ):
        if value is not None:
            statement = statement.where(column == value)
    statement = listing.search(statement, params.keyword, StoragePool.name)
    statement = statement.order_by(StoragePool.created, StoragePool.id)
    return listing.fetch(
        call, statement, params, lambda rows: [_show(call.session, call.configuration, row) for row in rows]
    )


def _show(session: Session, configuration: Configuration, row: StoragePool) -> StoragePoolResponse:
    return StoragePoolResponse(
        id=row.id,
        name=row.name,
        zoneid=row.zone_id,
        zonename=row.zone.name,
        path=row.path,
        state=row.state if row.enabled or row.state != "Up" else "Disabled",
        tags=row.tags,
        disksizetotal=row.total_bytes,
        disksizeused=row.used_bytes,
        disksizeallocated=pools.promised(session, row.id),
        overprovisionfactor=configuration.get(session, OVERPROVISIONING, zone=row.zone_id),
        created=row.created,
    )


class CreateStoragePool(Params):
    name: str = param("the name for the storage pool")
    url: str = param("file:///directory: absolute, the same on every host of the zone", length=4096)
    zoneid: str = param("the Zone ID for the storage pool", entity="Zone")
    scope: str = param("the scope of the storage: ZONE", default="ZONE")
    tags: str | None = param("comma-joined tags; offerings with tags go to pools that have them all", default=None)
    podid: str | None = param("accepted for clients that send it", default=None, entity="Pod")
    clusterid: str | None = param("accepted for clients that send it", default=None, entity="Cluster")


@command(
    "createStoragePool",
    description="Creates a storage pool.",
    params=CreateStoragePool,
    response=StoragePoolResponse,
    object_name="storagepool",
    roles=ROOT,
    event="STORAGE.POOL.CREATE",
)
def create_storage_pool(call: Call, params: CreateStoragePool) -> StoragePoolResponse:
    zone = call.lookup(Zone, params.zoneid, "zoneid")
    path = _directory(params.url)
    taken = select(StoragePool.name).where(
        StoragePool.removed.is_(None), StoragePool.zone_id == zone.id, StoragePool.path == str(path)
    )
    if (other := call.session.scalars(taken).first()) is not None:
        raise ParameterError(f"url: {path} is storage pool {other} already")
    volumes = call.runtime.hypervisor.volumes
    volumes.prepare_pool(path)
    space = volumes.space(path)
    row = StoragePool(
        zone_id=zone.id,
        name=params.name,
        path=str(path),
        tags=params.tags,
        total_bytes=space.total,
        used_bytes=space.used,
    )
    call.session.add(row)
    call.session.flush()
    call.event(f"created storage pool {row.name}", ("StoragePool", row.id))
    return _show(call.session, call.configuration, row)


def _directory(url: str) -> Path:
    parts = urlsplit(url)
    path = Path(unquote(parts.path))
    if parts.scheme.lower() not in SCHEMES or parts.query or parts.fragment:
        raise ParameterError(
            "url: write it like file:///srv/pool; mount what is on another machine at that directory of every host"
        )
    if parts.netloc not in ("", "localhost"):
        raise ParameterError("url: a directory is on every host, so the URL names none: file:///srv/pool")
    if not path.is_absolute() or ".." in path.parts or len(path.parts) < 2:
        raise ParameterError("url: the directory must be an absolute path, such as file:///srv/pool")
    return path


class UpdateStoragePool(Params):
    id: str = param("the Id of the pool", entity="StoragePool")
    name: str | None = param("its new name", default=None)
    tags: str | None = param("its new tags; empty for none", default=None, clears=True)
    enabled: bool | None = param("false: nothing new is put there", default=None)


@command(
    "updateStoragePool",
    description="Updates a storage pool.",
    params=UpdateStoragePool,
    response=StoragePoolResponse,
    object_name="storagepool",
    roles=ROOT,
    event="STORAGE.POOL.UPDATE",
)
def update_storage_pool(call: Call, params: UpdateStoragePool) -> StoragePoolResponse:
    row = call.lookup(StoragePool, params.id)
    row.name = params.name or row.name
    if params.tags is not None:
        row.tags = params.tags or None
    if params.enabled is not None:
        row.enabled = params.enabled
    call.event(f"updated storage pool {row.name}", ("StoragePool", row.id))
    return _show(call.session, call.configuration, row)


class PoolId(Params):
    id: str = param("storage pool id", entity="StoragePool")


@command(
    "deleteStoragePool",
    description="Deletes a storage pool that is empty; its directory stays.",
    params=PoolId,
    roles=ROOT,
    event="STORAGE.POOL.DELETE",
)
def delete_storage_pool(call: Call, params: PoolId) -> Success:
    row = call.lookup(StoragePool, params.id)
    if row.is_default:
        raise ParameterError(f"id: storage pool {row.name} is the hypervisor's own and stays")
    for model, what in ((Volume, "volumes"), (Snapshot, "snapshots")):
        there = select(model.id).where(model.pool_id == row.id, model.removed.is_(None))
        if call.session.scalars(there.limit(1)).first() is not None:
            raise InUseError(f"storage pool {row.name} has {what}; move or delete them first")
    row.removed = now()
    call.event(f"deleted storage pool {row.name}", ("StoragePool", row.id))
    return Success()


def _maintain(row: StoragePool, workflow: str, description: str) -> Async:
    return Async(
        "StoragePool",
        row.id,
        description,
        workflow=workflow,
        arguments={"pool_id": row.id},
        completion="pool.show",
    )


@jobs.completion("pool.show")
def _shown(session: Session, job: AsyncJob, *, pool_id: str) -> StoragePoolResponse:
    row = session.get_one(StoragePool, pool_id)
    session.refresh(row)
    return _show(session, Configuration(), row)


@command(
    "enableStorageMaintenance",
    description="Puts a storage pool into maintenance: VMs with volumes there are stopped.",
    params=PoolId,
    response=StoragePoolResponse,
    object_name="storagepool",
    roles=ROOT,
    is_async=True,
    event="MAINT.PREPARE.PS",
)
def enable_storage_maintenance(call: Call, params: PoolId) -> Async:
    row = call.lookup(StoragePool, params.id)
    if row.state != "Up":
        raise ParameterError(f"id: storage pool {row.name} is {row.state}")
    row.state = "PrepareForMaintenance"
    return _maintain(row, "prepare_pool", f"putting storage pool {row.name} into maintenance")


@command(
    "cancelStorageMaintenance",
    description="Ends the maintenance of a storage pool: VMs that it stopped are started.",
    params=PoolId,
    response=StoragePoolResponse,
    object_name="storagepool",
    roles=ROOT,
    is_async=True,
    event="MAINT.CANCEL.PS",
)
def cancel_storage_maintenance(call: Call, params: PoolId) -> Async:
    row = call.lookup(StoragePool, params.id)
    if row.state != "Maintenance":
        raise ParameterError(f"id: storage pool {row.name} is {row.state}, not in maintenance")
    return _maintain(row, "resume_pool", f"ending the maintenance of storage pool {row.name}")
