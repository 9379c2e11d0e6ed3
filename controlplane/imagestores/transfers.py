"""Images on their way to people and from them: links to download from, and places to upload to."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy.orm import Session

from controlplane.configuration import Configuration
from controlplane.convergence.desired import generation_of
from controlplane.imagestores import images, links
from controlplane.store.models import Appliance, StoredImage, Zone


@dataclass(frozen=True)
class Extract:
    """A link to an image, which is a secret."""

    id: str
    ssvm_id: str
    generation: int
    url: str = field(repr=False)


def extract(session: Session, configuration: Configuration, image: StoredImage, name: str) -> Extract:
    """A link by which anybody who has it may download the image for a while; ``name`` is for the file.

    Raises NoSsvmError.
    """
    ssvm = _ssvm(session, image)
    plain = re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-")[:100]
    row, url = links.create(
        session,
        configuration,
        ssvm,
        store_id=image.store_id,
        path=image.path,
        subject_id=image.id,
        name=f"{plain or image.owner_id}.{image.format}",
        seconds=configuration.get_int(session, "extract.url.expiration.interval"),
    )
    return Extract(row.id, ssvm.id, generation_of(session, ssvm), url)


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


def await_upload(
    session: Session, configuration: Configuration, image: StoredImage, *, checksum: str | None, limit: int
) -> Upload:
    """Have an SSVM wait for an image's file. ``limit`` in bytes. Raises NoSsvmError."""
    ssvm = _ssvm(session, image)
    seconds = configuration.get_int(session, "upload.operation.timeout") * 60
    ticket = images.upload(session, image, ssvm_id=ssvm.id, checksum=checksum, limit=limit, seconds=seconds)
    host = links.host_of(session, configuration, ssvm.id)
    return Upload(
        image.id,
        ssvm.id,
        generation_of(session, ssvm),
        ticket.job.id,
        f"https://{host}/upload/{ticket.job.id}",
        ticket.expires,
        ticket.token.text,
    )


def _ssvm(session: Session, image: StoredImage) -> Appliance:
    zone = session.get_one(Zone, image.zone_id)
    return links.serving(session, zone.id, zone.name, image.store_id)
