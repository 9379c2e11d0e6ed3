"""Templates and ISOs on their way out, in by upload, and to other zones."""

from __future__ import annotations

from sqlalchemy.orm import Session

from controlplane.configuration import Configuration
from controlplane.errors import InUseError, ParameterError
from controlplane.imagestores import images, transfers
from controlplane.imagestores.jobs import live
from controlplane.store.models import ImageStore, StoredImage, Template, Zone
from controlplane.templates import progress, rows


def extract(session: Session, configuration: Configuration, template: Template, zone: Zone) -> transfers.Extract:
    """A link by which anybody who has it may download the file for a while. Raises ParameterError, NoSsvmError."""
    image = images.ready(session, "Template", template.id, zone.id)
    if image is None:
        raise ParameterError(f"zoneid: {template.name} is not ready in zone {zone.name}")
    return transfers.extract(session, configuration, image, template.name)


def await_upload(
    session: Session, configuration: Configuration, template: Template, zone: Zone, limit: int
) -> transfers.Upload:
    """Have an SSVM wait for a template's file. ``limit`` in bytes. Raises ParameterError, NoSsvmError."""
    image = rows.new_image(session, template, zone)
    made = transfers.await_upload(session, configuration, image, checksum=template.checksum, limit=limit)
    progress.started(session, template, image, "upload")
    return made


def copy(session: Session, template: Template, source: Zone | None, target: Zone) -> StoredImage:
    """Begin to copy a template to a zone, from ``source`` or any zone that has it. Raises ParameterError."""
    there = images.of_owner(session, "Template", template.id)
    if not there:
        raise ParameterError(f"id: {template.name} comes with the hypervisor; it is in every zone already")
    for image in there:
        if image.zone_id != target.id:
            continue
        if image.state == "Ready":
            raise ParameterError(f"destzoneid: {template.name} is in zone {target.name} already")
        if live(session, image.id):
            raise InUseError(f"{template.name} is on its way to zone {target.name} already")
        images.remove(session, image)
    sources = [image for image in there if image.state == "Ready" and image.zone_id != target.id]
    found = next((image for image in sources if source is None or image.zone_id == source.id), None)
    if found is None:
        raise ParameterError(
            f"sourcezoneid: {template.name} is not ready {'in ' + source.name if source else 'anywhere'}"
        )
    made = rows.new_image(session, template, target, found.format)
    if session.get_one(ImageStore, found.store_id).zone_id is None:
        # of a region: the SSVMs of all zones reach it
        images.convert(session, made, store_id=found.store_id, path=found.path, format=found.format)
    else:
        images.copy(session, made, found)
    progress.started(session, template, made, "copy")
    return made
