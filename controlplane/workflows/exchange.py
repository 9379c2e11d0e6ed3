"""Disks between primary storage and image stores: jobs of SSVMs by way of the exchange (``imagestores.shares``)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from controlplane.imagestores import images, jobs, shares
from controlplane.store.models import StoredImage
from controlplane.workflows.flow import Flow

#: seconds that an image may take from one to the other, or to another zone
PATIENCE = 6 * 3600.0
#: purpose of jobs whose object the hypervisor takes
BRING = "bring"


def place(flow: Flow, name: str) -> Path:
    """A file of the exchange, whose directory is there then."""
    directory = shares.exchange(flow.core.hypervisor)
    directory.mkdir(mode=0o711, parents=True, exist_ok=True)
    return directory / name


def wait(flow: Flow, job_id: str) -> None:
    """Have an SSVM do a job that was started and committed. Raises ApiError."""
    flow.core.storage_changed.set()
    jobs.wait(flow.core, job_id, PATIENCE, lambda: flow.reconciler.stopping)


@contextmanager
def brought(flow: Flow, image: StoredImage, name: str) -> Iterator[Path]:
    """An image as a qcow2 file of the exchange, which is gone afterwards. Raises ApiError."""
    path = place(flow, name)
    path.unlink(missing_ok=True)
    fields = {"source_store": image.store_id, "source_path": image.path, "format": image.format}
    if image.format != "qcow2":
        # qcow2 is kept as it came
        fields["target_format"] = "qcow2"
    with flow.core.database.transaction() as session:
        job_id = jobs.start(
            session,
            zone_id=image.zone_id,
            kind="convert",
            store_id=shares.EXCHANGE,
            path=name,
            purpose=BRING,
            subject_id=image.id,
            fields=fields,
        ).id
    try:
        wait(flow, job_id)
        yield path
    finally:
        path.unlink(missing_ok=True)


def convert(flow: Flow, image_id: str, *, store_id: str, path: str, format: str) -> None:
    """Make an image of an object in a store, or go on with that. Raises ApiError. Doing so twice does nothing."""
    with flow.core.database.transaction() as session:
        image = session.get_one(StoredImage, image_id)
        if image.state == "Ready":
            return
        waiting = jobs.live(session, image_id)
        job = waiting[0] if waiting else images.convert(session, image, store_id=store_id, path=path, format=format)
        job_id = job.id
    wait(flow, job_id)
