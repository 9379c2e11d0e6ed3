"""What follows the end of SSVMs' jobs, by what they were for."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from sqlalchemy.orm import Session

from controlplane.imagestores import images, jobs
from controlplane.storage import transfers as volumes
from controlplane.store.models import StorageJob, StoredImage
from controlplane.templates import progress as templates

#: owner type of an image -> told of the end of the job that makes it, and of connections that it lost
OWNERS: Mapping[str, Callable[[Session, StoredImage, StorageJob], None]] = {
    "Template": templates.note,
    "Volume": volumes.note_volume,
    "Snapshot": volumes.note_snapshot,
}
#: times that the removal of an object is tried
REMOVALS = 5


def settle(session: Session, job: StorageJob) -> None:
    """A job has ended, or lost a connection; called once for each, in the transaction that notes it."""
    if job.purpose == images.MAKE:
        image = images.ended(session, job) if job.ended is not None else session.get(StoredImage, job.subject_id)
        if image is not None and image.removed is None:
            OWNERS[image.owner_type](session, image, job)
    elif job.purpose == images.REMOVE and job.state == "failed" and job.attempt < REMOVALS:
        jobs.again(session, job)
