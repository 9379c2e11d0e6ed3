"""Copies of templates, ISOs, volumes and snapshots in image stores, and the jobs that make and remove them.

A row is ``Creating`` until its job has ended; then ``Ready`` with sizes and checksums, or ``Failed`` with the reason.
What is more to be done at the end is in ``imagestores.outcomes``.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from controlplane.imagestores import jobs, links, stores
from controlplane.store.models import StorageJob, StoredImage, Zone, new_id, now

#: purpose of jobs that make an image, and of those that remove one
MAKE, REMOVE = "image", "remove"
#: folder of each kind of owner
_FOLDERS = {"Template": "template", "Volume": "volume", "Snapshot": "snapshot"}
GIB = 1 << 30


def create(session: Session, *, owner_type: str, owner_id: str, zone: Zone, format: str) -> StoredImage:
    """The row of a copy that a job is about to make. ``format`` is a document's.

    Raises ParameterError when the zone has no store for it.
    """
    store = stores.choose(session, zone.id, zone.name)
    id = new_id()
    row = StoredImage(
        id=id,
        owner_type=owner_type,
        owner_id=owner_id,
        zone_id=zone.id,
        store_id=store.id,
        path=f"{_FOLDERS[owner_type]}/{owner_id}/{id}.{format}",
        format=format,
    )
    session.add(row)
    session.flush()
    return row


def of_owner(session: Session, owner_type: str, owner_id: str) -> list[StoredImage]:
    """Where something is kept, the oldest first."""
    return list(_all(session, owner_type, [owner_id]))


def of_owners(session: Session, owner_type: str, owner_ids: Collection[str]) -> dict[str, list[StoredImage]]:
    """The same for many: id -> rows."""
    found: dict[str, list[StoredImage]] = {}
    for row in _all(session, owner_type, owner_ids):
        found.setdefault(row.owner_id, []).append(row)
    return found


def _all(session: Session, owner_type: str, owner_ids: Collection[str]) -> list[StoredImage]:
    statement = select(StoredImage).where(
        StoredImage.owner_type == owner_type, StoredImage.owner_id.in_(owner_ids), StoredImage.removed.is_(None)
    )
    return list(session.scalars(statement.order_by(StoredImage.created, StoredImage.id)))


def ready(session: Session, owner_type: str, owner_id: str, zone_id: str) -> StoredImage | None:
    """A whole copy in a zone."""
    rows = of_owner(session, owner_type, owner_id)
    return next((row for row in rows if row.zone_id == zone_id and row.state == "Ready"), None)


def download(session: Session, image: StoredImage, url: str, *, checksum: str | None, limit: int) -> StorageJob:
    """Fetch an image; ``limit`` bytes at most, as it comes and unpacked."""
    fields: dict[str, Any] = {"url": url, "format": image.format, "size_limit": limit}
    if checksum is not None:
        fields["checksum"] = checksum
    return _make(session, image, "download", fields)


@dataclass(frozen=True)
class UploadTicket:
    """An upload that is waited for until ``expires``; the token is a secret."""

    job: StorageJob
    token: links.Token
    expires: datetime


def upload(
    session: Session, image: StoredImage, *, ssvm_id: str, checksum: str | None, limit: int, seconds: int
) -> UploadTicket:
    """Have an SSVM wait for an image to be sent; it must begin within ``seconds``."""
    token = links.new_token()
    expires = now() + timedelta(seconds=seconds)
    fields: dict[str, Any] = {
        "token_hash": token.hash,
        "expires": expires.isoformat(),
        "format": image.format,
        "size_limit": limit,
    }
    if checksum is not None:
        fields["checksum"] = checksum
    return UploadTicket(_make(session, image, "upload", fields, ssvm_id), token, expires)


def copy(session: Session, image: StoredImage, source: StoredImage) -> StorageJob:
    """Fetch an image from an SSVM of the zone where ``source`` is; both get to know each other when it is assigned."""
    fields = {
        "source_zone": source.zone_id,
        "source_store": source.store_id,
        "source_path": source.path,
        "checksum": source.object_checksum,
        "size": source.physical_size,
        "format": source.format,
    }
    return _make(session, image, "copy", fields)


def convert(
    session: Session, image: StoredImage, *, store_id: str, path: str, format: str, target: str | None = None
) -> StorageJob:
    """Make an image of an object in a store that the zone's SSVMs see; ``target`` None keeps the bytes as they are."""
    fields = {"source_store": store_id, "source_path": path, "format": format}
    if target is not None:
        fields["target_format"] = target
    return _make(session, image, "convert", fields)


def _make(
    session: Session, image: StoredImage, kind: str, fields: dict[str, Any], appliance_id: str | None = None
) -> StorageJob:
    return jobs.start(
        session,
        zone_id=image.zone_id,
        kind=kind,
        store_id=image.store_id,
        path=image.path,
        purpose=MAKE,
        subject_id=image.id,
        fields=fields,
        appliance_id=appliance_id,
    )


def remove(session: Session, image: StoredImage) -> None:
    """Remove an image: what is being done to it ends, links to it too, and the object is deleted."""
    before = jobs.live(session, image.id)
    for row in before:
        jobs.cancel(session, row)
    links.withdraw(session, image.id)
    image.removed = now()
    jobs.start(
        session,
        zone_id=image.zone_id,
        kind="delete",
        store_id=image.store_id,
        path=image.path,
        purpose=REMOVE,
        subject_id=image.id,
        # one that may still be writing it must be told that, and nobody else
        appliance_id=next((row.appliance_id for row in before if row.appliance_id is not None), None),
    )


def ended(session: Session, job: StorageJob) -> StoredImage | None:
    """Bring the row up to date with the end of the job that makes it; None when it was removed meanwhile."""
    image = session.get(StoredImage, job.subject_id)
    if image is None or image.removed is not None:
        return None
    if job.state == "done" and job.result is not None:
        image.state, image.error = "Ready", None
        image.format = job.result["format"]
        image.physical_size, image.virtual_size = job.result["physical_size"], job.result["virtual_size"]
        image.checksum, image.object_checksum = job.result["checksum"], job.result["object_checksum"]
    else:
        image.state, image.error = "Failed", job.message or "it was given up"
    session.flush()
    return image
