"""Templates and ISOs on their way out, in by upload, and to other zones."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy.orm import Session

from controlplane.configuration import Configuration
from controlplane.errors import InUseError, ParameterError
from controlplane.imagestores import images, links
from controlplane.imagestores.jobs import live
from controlplane.store.models import Appliance, ImageStore, StoredImage, Template, Zone
from controlplane.templates import progress, rows


@dataclass(frozen=True)
class Extract:
    """A link to a template's file, which is a secret."""

    id: str
    ssvm_id: str
    generation: int
    url: str = field(repr=False)


def extract(session: Session, configuration: Configuration, template: Template, zone: Zone) -> Extract:
    """A link by which anybody who has it may download the file for a while. Raises ParameterError, NoSsvmError."""
    image = images.ready(session, "Template", template.id, zone.id)
    if image is None:
        raise ParameterError(f"zoneid: {template.name} is not ready in zone {zone.name}")
    ssvm = links.serving(session, zone.id, zone.name, image.store_id)
    row, url = links.create(
        session,
        configuration,
        ssvm,
        store_id=image.store_id,
        path=image.path,
        subject_id=image.id,
        name=_file_name(template, image),
        seconds=configuration.get_int(session, "extract.url.expiration.interval"),
    )
    return Extract(row.id, ssvm.id, _generation(session, ssvm), url)


def _file_name(template: Template, image: StoredImage) -> str:
    plain = re.sub(r"[^A-Za-z0-9_-]+", "-", template.name).strip("-")[:100]
    return f"{plain or template.id}.{image.format}"


@dataclass(frozen=True)
class Upload:
    """Where somebody may send a file, once. ``signature`` is a secret."""

    image_id: str
    ssvm_id: str
    generation: int
    job_id: str
    url: str
    expires: datetime
    signature: str = field(repr=False)


def await_upload(session: Session, configuration: Configuration, template: Template, zone: Zone, limit: int) -> Upload:
    """Have an SSVM wait for a template's file. ``limit`` in bytes. Raises ParameterError, NoSsvmError."""
    image = rows.new_image(session, template, zone)
    ssvm = links.serving(session, zone.id, zone.name, image.store_id)
    seconds = configuration.get_int(session, "upload.operation.timeout") * 60
    ticket = images.upload(session, image, ssvm_id=ssvm.id, checksum=template.checksum, limit=limit, seconds=seconds)
    progress.started(session, template, image, "upload")
    host = links.host_of(session, configuration, ssvm.id)
    return Upload(
        image.id,
        ssvm.id,
        _generation(session, ssvm),
        ticket.job.id,
        f"https://{host}/upload/{ticket.job.id}",
        ticket.expires,
        ticket.token.text,
    )


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


def _generation(session: Session, ssvm: Appliance) -> int:
    session.flush()
    session.refresh(ssvm, ["desired_generation"])
    return ssvm.desired_generation
