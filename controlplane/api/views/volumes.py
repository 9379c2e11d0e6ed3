"""Volumes as the API shows them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from controlplane.api.command import Response, shown
from controlplane.api.listing import OwnedResponse, owned_by
from controlplane.api.tagging import TagResponse, tags_of
from controlplane.imagestores import images
from controlplane.store.models import DiskOffering, StoragePool, Template, Vm, Volume


class VolumeResponse(OwnedResponse):
    """A volume."""

    id: str = shown("id of the volume", ...)
    name: str = shown("its name", ...)
    type: str = shown("ROOT or DATADISK", ...)
    state: str = shown(
        "Allocated (nowhere yet), Uploading, Uploaded, UploadError, UploadAbandoned, "
        "Creating, Ready, Resizing, Migrating, Reverting, Destroy, Expunging or Expunged",
        ...,
    )
    status: str | None = shown("why what was uploaded is not there")
    size: int = shown("bytes of the disk", ...)
    created: datetime = shown("when it was created", ...)
    destroyed: bool = shown("it can be recovered until it is expunged", False)
    zoneid: str = shown("id of its zone", ...)
    zonename: str = shown("name of its zone", ...)
    virtualmachineid: str | None = shown("id of the VM that has it")
    vmname: str | None = shown("name of that VM")
    vmdisplayname: str | None = shown("that VM's name for people")
    vmstate: str | None = shown("state of that VM")
    deviceid: int | None = shown("its number there; 0 is the root volume")
    attached: datetime | None = shown("when it was attached")
    diskofferingid: str | None = shown("id of its disk offering")
    diskofferingname: str | None = shown("name of its disk offering")
    diskofferingdisplaytext: str | None = shown("description of its disk offering")
    serviceofferingid: str | None = shown("of a root volume: id of its VM's offering")
    serviceofferingname: str | None = shown("of a root volume: name of its VM's offering")
    templateid: str | None = shown("of a root volume: id of the template that it was made of")
    templatename: str | None = shown("of a root volume: name of that template")
    snapshotid: str | None = shown("id of the snapshot that it was made of")
    storageid: str | None = shown("id of its storage pool, for root administrators")
    storage: str | None = shown("name of its storage pool, for root administrators")
    path: str | None = shown("its file in the pool, for root administrators")
    storagetype: str = shown("pools are shared by the hosts of a zone", "shared")
    provisioningtype: str = shown("it takes the space of what was written", "thin")
    hypervisor: str | None = shown("kind of hypervisor")
    displayvolume: bool = shown("it is shown to its owner", True)
    isextractable: bool = shown("its content can be downloaded", True)
    tags: list[TagResponse] = shown("its tags", [])


class StoragePoolResponse(Response):
    """A storage pool."""

    id: str = shown("the ID of the storage pool", ...)
    name: str = shown("the name of the storage pool", ...)
    zoneid: str = shown("the Zone ID of the storage pool", ...)
    zonename: str = shown("the Zone name of the storage pool", ...)
    path: str = shown("the storage pool path", ...)
    type: str = shown("the storage pool type", "SharedMountPoint")
    scope: str = shown("the scope of the storage pool", "ZONE")
    state: str = shown("Up, Disabled, PrepareForMaintenance or Maintenance", ...)
    tags: str | None = shown("the tags for the storage pool")
    disksizetotal: int = shown("bytes of its file system", ...)
    disksizeused: int = shown("bytes of its file system that are used", ...)
    disksizeallocated: int = shown("bytes promised to volumes", ...)
    overprovisionfactor: str = shown("how many times its space is promised", ...)
    created: datetime = shown("the date and time the storage pool was created", ...)


def show_volumes(session: Session, volumes: Sequence[Volume], *, for_root: bool = False) -> list[VolumeResponse]:
    """Volumes; ``for_root`` adds where they are."""
    # filled in advance for all rows; the identity map then answers what follows
    for model, ids in (
        (Vm, {row.vm_id for row in volumes}),
        (DiskOffering, {row.disk_offering_id for row in volumes}),
        (Template, {row.template_id for row in volumes}),
        (StoragePool, {row.pool_id for row in volumes}),
    ):
        session.scalars(select(model).where(model.id.in_(ids - {None}))).all()
    tags = tags_of(session, "Volume", [row.id for row in volumes])
    answers = []
    for row in volumes:
        answer = _show(session, row)
        answer.tags = tags.get(row.id, [])
        if row.state in ("UploadError", "UploadAbandoned"):
            answer.status = next((image.error for image in reversed(images.of_owner(session, "Volume", row.id))), None)
        if for_root and row.pool is not None:
            answer.storageid, answer.storage, answer.path = row.pool.id, row.pool.name, row.path or None
        answers.append(answer)
    return answers


def _show(session: Session, row: Volume) -> VolumeResponse:
    vm, offering = row.vm, row.disk_offering
    template = session.get(Template, row.template_id) if row.template_id is not None else None
    size = vm.service_offering if vm is not None and row.type == "ROOT" else None
    return VolumeResponse(
        **owned_by(row.account),
        id=row.id,
        name=row.name,
        type=row.type,
        state=row.state,
        size=row.size,
        created=row.created,
        destroyed=row.state in ("Destroy", "Expunging", "Expunged"),
        zoneid=row.zone_id,
        zonename=row.zone.name,
        virtualmachineid=vm.id if vm else None,
        vmname=vm.name if vm else None,
        vmdisplayname=vm.display_name if vm else None,
        vmstate=vm.state if vm else None,
        deviceid=row.device_id,
        attached=row.attached,
        diskofferingid=offering.id if offering else None,
        diskofferingname=offering.name if offering else None,
        diskofferingdisplaytext=offering.display_text if offering else None,
        serviceofferingid=size.id if size else None,
        serviceofferingname=size.name if size else None,
        templateid=template.id if template else None,
        templatename=template.name if template else None,
        snapshotid=row.snapshot_id,
        hypervisor=vm.template.hypervisor if vm else None,
        displayvolume=row.for_display,
    )
