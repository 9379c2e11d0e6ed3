"""Disk offerings: sizes of volumes, and the tags of the pools that they go to (guide: chapters 8.3, 13.2.4)."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import select

from controlplane.api import listing, offerings
from controlplane.api.call import Call
from controlplane.api.command import ROOT, ListParams, Params, Response, Success, command, param, shown
from controlplane.errors import ParameterError
from controlplane.storage.settings import LARGEST
from controlplane.store.models import DiskOffering, now


class DiskOfferingResponse(Response):
    """A disk offering."""

    id: str = shown("unique ID of the disk offering", ...)
    name: str = shown("the name of the disk offering", ...)
    displaytext: str = shown("an alternate display text of the disk offering.", ...)
    disksize: int = shown("the size of the disk offering in GB", ...)
    iscustomized: bool = shown("true if disk offering uses custom size, false otherwise", ...)
    storagetype: str = shown("the storage type for this disk offering", "shared")
    provisioningtype: str = shown("provisioning type used to create volumes", "thin")
    displayoffering: bool = shown("whether to display the offering to the end user or not.", True)
    tags: str | None = shown("the tags for the disk offering")
    created: datetime = shown("the date this disk offering was created", ...)


def _disk(row: DiskOffering) -> DiskOfferingResponse:
    return DiskOfferingResponse(
        id=row.id,
        name=row.name,
        displaytext=row.display_text,
        disksize=row.disk_size,
        iscustomized=row.is_customized,
        displayoffering=row.for_display,
        tags=row.tags,
        created=row.created,
    )


class ListDiskOfferings(ListParams):
    id: str | None = param("ID of the disk offering", default=None, entity="DiskOffering")
    name: str | None = param("name of the disk offering", default=None)


@command(
    "listDiskOfferings",
    description="Lists all available disk offerings.",
    params=ListDiskOfferings,
    response=DiskOfferingResponse,
    object_name="diskoffering",
)
def list_disk_offerings(call: Call, params: ListDiskOfferings) -> tuple[int, list[DiskOfferingResponse]]:
    statement = select(DiskOffering).where(DiskOffering.removed.is_(None))
    if not call.is_root:
        statement = statement.where(DiskOffering.for_display)
    statement = offerings.choose(call, statement, DiskOffering, params)
    statement = statement.order_by(DiskOffering.disk_size, DiskOffering.id)
    return listing.fetch(call, statement, params, lambda rows: [_disk(row) for row in rows])


class CreateDiskOffering(Params):
    name: str = param("name of the disk offering")
    displaytext: str | None = param("its description; the name by default", default=None, length=4096)
    disksize: int | None = param("GiB of its volumes, unless it is customized", default=None, minimum=1)
    customized: bool = param("whoever makes a volume says how large it is", default=False)
    displayoffering: bool = param("users see it", default=True)
    tags: str | None = param("comma-joined tags that a storage pool must have for its volumes", default=None)
    storagetype: str = param("shared; pools are directories that all hosts of a zone have", default="shared")
    provisioningtype: str = param("thin; a volume takes the space of what was written", default="thin")


@command(
    "createDiskOffering",
    description="Creates a disk offering.",
    params=CreateDiskOffering,
    response=DiskOfferingResponse,
    object_name="diskoffering",
    roles=ROOT,
    event="DISK.OFFERING.CREATE",
)
def create_disk_offering(call: Call, params: CreateDiskOffering) -> DiskOfferingResponse:
    if params.storagetype.lower() != "shared":
        raise ParameterError("storagetype: storage is shared by the hosts of a zone; leave it out")
    if params.provisioningtype.lower() != "thin":
        raise ParameterError("provisioningtype: volumes are thin; leave it out")
    if params.customized == (params.disksize is not None):
        raise ParameterError("disksize: give it unless the offering is customized, and only then")
    largest = call.configuration.get_int(call.session, LARGEST)
    if params.disksize is not None and params.disksize > largest:
        raise ParameterError(f"disksize: a volume may have {largest} GiB ({LARGEST})")
    row = DiskOffering(
        name=params.name,
        display_text=params.displaytext or params.name,
        disk_size=params.disksize or 0,
        is_customized=params.customized,
        for_display=params.displayoffering,
        tags=params.tags,
    )
    offerings.add(call, row, "created disk offering")
    return _disk(row)


class UpdateDiskOffering(Params):
    id: str = param("ID of the disk offering", entity="DiskOffering")
    name: str | None = param("its new name", default=None)
    displaytext: str | None = param("its new description", default=None, length=4096)
    displayoffering: bool | None = param("users see it", default=None)


@command(
    "updateDiskOffering",
    description="Updates a disk offering.",
    params=UpdateDiskOffering,
    response=DiskOfferingResponse,
    object_name="diskoffering",
    roles=ROOT,
    event="DISK.OFFERING.EDIT",
)
def update_disk_offering(call: Call, params: UpdateDiskOffering) -> DiskOfferingResponse:
    row = call.lookup(DiskOffering, params.id)
    if params.displayoffering is not None:
        row.for_display = params.displayoffering
    offerings.rename(call, row, params, "updated disk offering")
    return _disk(row)


class DeleteDiskOffering(Params):
    id: str = param("ID of the disk offering", entity="DiskOffering")


@command(
    "deleteDiskOffering",
    description="Deletes a disk offering; volumes that have it keep it",
    params=DeleteDiskOffering,
    roles=ROOT,
    event="DISK.OFFERING.DELETE",
)
def delete_disk_offering(call: Call, params: DeleteDiskOffering) -> Success:
    row = call.lookup(DiskOffering, params.id)
    row.removed = now()
    call.event(f"deleted disk offering {row.name}", ("DiskOffering", row.id))
    return Success()
