"""Image stores: where templates, ISOs, volumes and backups of snapshots are kept (guide: chapters 13.5 and 16.5)."""

from __future__ import annotations

from sqlalchemy import func, or_, select

from controlplane.api import listing
from controlplane.api.call import Call
from controlplane.api.command import ROOT, ListParams, Params, Response, Success, command, param, shown
from controlplane.convergence.roles import desire_setting
from controlplane.errors import InUseError, ParameterError
from controlplane.imagestores import providers
from controlplane.store.models import ImageStore, StorageJob, StoredImage, Zone, now


class ImageStoreResponse(Response):
    """An image store; its secret is in no answer."""

    id: str = shown("the ID of the image store", ...)
    name: str = shown("the name of the image store", ...)
    providername: str = shown("the provider name of the image store", ...)
    protocol: str = shown("the protocol of the image store", ...)
    scope: str = shown("the scope of the image store: ZONE or REGION", ...)
    url: str = shown("the url of the image store", ...)
    zoneid: str | None = shown("the Zone ID of the image store")
    zonename: str | None = shown("the Zone name of the image store")
    readonly: bool = shown("nothing new is put there", ...)
    details: dict[str, str] | None = shown("what the provider needs beside the URL, without secrets")
    healthy: bool | None = shown("whether a secondary storage VM could use it last; not there before one tried")
    status: str | None = shown("why it could not be used")
    disksizetotal: int | None = shown("bytes that it has, where it tells")
    disksizeused: int | None = shown("bytes of it that are used, where it tells")


def show(call: Call, row: ImageStore) -> ImageStoreResponse:
    zone = call.session.get(Zone, row.zone_id) if row.zone_id is not None else None
    used = row.total - row.free if row.total is not None and row.free is not None else None
    return ImageStoreResponse(
        id=row.id,
        name=row.name,
        providername=row.provider,
        protocol={"Local": "file", "NFS": "nfs", "S3": "s3", "Swift": "swift"}[row.provider],
        scope="ZONE" if row.zone_id is not None else "REGION",
        url=row.url,
        zoneid=row.zone_id,
        zonename=zone.name if zone is not None else None,
        readonly=row.read_only,
        details={name: str(value) for name, value in row.details.items()} or None,
        healthy=row.healthy,
        status=row.detail,
        disksizetotal=row.total,
        disksizeused=used,
    )


def add(
    call: Call, *, provider: str, name: str | None, url: str | None, zoneid: str | None, details: dict[str, str]
) -> ImageStore:
    """A new store, checked. Raises ParameterError."""
    kind = providers.provider_of(provider)
    if zoneid is None and kind in ("Local", "NFS"):
        raise ParameterError(f"zoneid: a {kind} store is of one zone; say which")
    zone = call.lookup(Zone, zoneid, "zoneid") if zoneid is not None else None
    made = providers.describe(
        kind, url, details, providers.Places(call.runtime.data, call.runtime.images, zoneid or "")
    )
    there = select(ImageStore).where(ImageStore.url == made.url, ImageStore.removed.is_(None))
    for other in call.session.scalars(there):
        if other.zone_id == (zone.id if zone is not None else None):
            raise ParameterError(f"url: {made.url} is image store {other.name} already")
    row = ImageStore(
        name=name or made.url,
        zone_id=zone.id if zone is not None else None,
        provider=kind,
        url=made.url,
        details=made.details,
        secret=call.runtime.secrets.seal(made.secret) if made.secret is not None else None,
    )
    call.session.add(row)
    call.session.flush()
    call.event(f"adding image store {row.name}", ("ImageStore", row.id), type="IMAGESTORE.CREATE")
    _tell_ssvms(call, row)
    return row


def _tell_ssvms(call: Call, row: ImageStore) -> None:
    call.session.flush()
    desire_setting(call.session, "secstorage.", row.zone_id)
    call.after_commit(call.runtime.keep_storage)


class AddImageStore(Params):
    provider: str = param("what it is: Local (a directory of the hosts), NFS, S3 or Swift")
    name: str | None = param("name of the store, its URL unless given", default=None)
    url: str | None = param(
        "file:///path (a default one unless given), nfs://server/path, or the endpoint", default=None
    )
    zoneid: str | None = param("zone that it is for; Local and NFS need one", default=None, entity="Zone")
    details: dict[str, str] | None = param(
        "S3: accesskey, secretkey, bucket, endpoint, region, prefix; Swift: account, username, key, container",
        default=None,
        secret=True,
    )


@command(
    "addImageStore",
    description="Adds an image store; the zone gets a secondary storage VM with its first one",
    params=AddImageStore,
    response=ImageStoreResponse,
    object_name="imagestore",
    roles=ROOT,
    event="IMAGESTORE.CREATE",
)
def add_image_store(call: Call, params: AddImageStore) -> ImageStoreResponse:
    return show(
        call,
        add(
            call,
            provider=params.provider,
            name=params.name,
            url=params.url,
            zoneid=params.zoneid,
            details=params.details or {},
        ),
    )


class AddImageStoreS3(Params):
    accesskey: str = param("access key")
    secretkey: str = param("secret access key", secret=True)
    bucket: str = param("bucket that objects are kept in")
    endpoint: str = param("host or URL of the S3 service")
    region: str = param("region of the bucket", default="us-east-1")
    usehttps: bool = param("speak HTTPS, where endpoint does not say", default=True)


@command(
    "addImageStoreS3",
    description="Adds an S3 image store for all zones",
    params=AddImageStoreS3,
    response=ImageStoreResponse,
    object_name="imagestore",
    roles=ROOT,
    event="IMAGESTORE.CREATE",
)
def add_image_store_s3(call: Call, params: AddImageStoreS3) -> ImageStoreResponse:
    details = {name: str(value) for name, value in params.model_dump().items()}
    return show(call, add(call, provider="S3", name=None, url=None, zoneid=None, details=details))


class AddSecondaryStorage(Params):
    url: str = param("nfs://server/path, or file:///path", length=2048)
    zoneid: str = param("zone that it is for", entity="Zone")


@command(
    "addSecondaryStorage",
    description="Adds a directory as an image store of a zone",
    params=AddSecondaryStorage,
    response=ImageStoreResponse,
    object_name="secondarystorage",
    roles=ROOT,
    event="IMAGESTORE.CREATE",
)
def add_secondary_storage(call: Call, params: AddSecondaryStorage) -> ImageStoreResponse:
    provider = "Local" if params.url.startswith("file:") else "NFS"
    return show(call, add(call, provider=provider, name=None, url=params.url, zoneid=params.zoneid, details={}))


class ListImageStores(ListParams):
    id: str | None = param("the ID of the image store", default=None, entity="ImageStore")
    name: str | None = param("the name of the image store", default=None)
    provider: str | None = param("the provider of the image store", default=None)
    protocol: str | None = param("the protocol of the image store", default=None)
    zoneid: str | None = param("stores that the zone can use", default=None, entity="Zone")
    readonly: bool | None = param("only those that nothing new is put in, or only others", default=None)


@command(
    "listImageStores",
    description="Lists image stores with their room and health",
    params=ListImageStores,
    response=ImageStoreResponse,
    object_name="imagestore",
    roles=ROOT,
)
def list_image_stores(call: Call, params: ListImageStores) -> tuple[int, list[ImageStoreResponse]]:
    statement = select(ImageStore).where(ImageStore.removed.is_(None)).order_by(ImageStore.created, ImageStore.id)
    if params.id is not None:
        statement = statement.where(ImageStore.id == call.lookup(ImageStore, params.id).id)
    if params.name is not None:
        statement = statement.where(ImageStore.name == params.name)
    if params.provider is not None:
        statement = statement.where(ImageStore.provider == providers.provider_of(params.provider))
    if params.protocol is not None:
        statement = statement.where(ImageStore.provider == providers.provider_of(params.protocol))
    if params.zoneid is not None:
        zone = call.lookup(Zone, params.zoneid, "zoneid")
        statement = statement.where(or_(ImageStore.zone_id == zone.id, ImageStore.zone_id.is_(None)))
    if params.readonly is not None:
        statement = statement.where(ImageStore.read_only.is_(params.readonly))
    statement = listing.search(statement, params.keyword, ImageStore.name, ImageStore.url)
    return listing.fetch(call, statement, params, lambda rows: [show(call, row) for row in rows])


class UpdateImageStore(Params):
    id: str = param("the ID of the image store", entity="ImageStore")
    name: str | None = param("another name", default=None)
    readonly: bool | None = param("put nothing new there", default=None)


@command(
    "updateImageStore",
    description="Changes an image store's name, or whether anything new is put there",
    params=UpdateImageStore,
    response=ImageStoreResponse,
    object_name="imagestore",
    roles=ROOT,
    event="IMAGESTORE.UPDATE",
)
def update_image_store(call: Call, params: UpdateImageStore) -> ImageStoreResponse:
    row = call.lookup(ImageStore, params.id)
    row.name = params.name if params.name is not None else row.name
    row.read_only = params.readonly if params.readonly is not None else row.read_only
    call.event(f"changing image store {row.name}", ("ImageStore", row.id))
    call.session.flush()
    return show(call, row)


class DeleteImageStore(Params):
    id: str = param("the ID of the image store", entity="ImageStore")


@command(
    "deleteImageStore",
    description="Removes an image store that nothing is kept in",
    params=DeleteImageStore,
    roles=ROOT,
    event="IMAGESTORE.DELETE",
)
def delete_image_store(call: Call, params: DeleteImageStore) -> Success:
    row = call.lookup(ImageStore, params.id)
    held = select(func.count()).where(StoredImage.store_id == row.id, StoredImage.removed.is_(None))
    if count := call.session.execute(held).scalar_one():
        raise InUseError(
            f"image store {row.name} has {count} templates, ISOs, volumes and snapshots; delete them first"
        )
    busy = select(StorageJob.id).where(StorageJob.store_id == row.id, StorageJob.ended.is_(None))
    if call.session.scalar(busy.limit(1)) is not None:
        raise InUseError(
            f"image store {row.name} is being worked on, e.g. to delete what was in it; try again in a minute"
        )
    row.removed, row.secret = now(), None
    call.event(f"removing image store {row.name}", ("ImageStore", row.id))
    _tell_ssvms(call, row)
    return Success()
