"""Volumes and snapshots in secondary storage: what becomes of their images (guide: chapters 13.4.2, 13.5)."""

from __future__ import annotations

from sqlalchemy.orm import Session

from controlplane import events
from controlplane.events import Level
from controlplane.store.models import Snapshot, StorageJob, StoredImage, Volume


def note_volume(session: Session, image: StoredImage, job: StorageJob) -> None:
    """The job that makes a volume's image has ended, or lost a connection."""
    volume = session.get(Volume, image.owner_id)
    if volume is None or volume.removed is not None:
        return
    if job.kind == "convert":
        # made for a link out: whoever wants that waits for it
        return
    if job.ended is None:
        _tell(session, volume, f"{volume.name}: the connection was lost: {job.detail}; it goes on", "WARN")
    elif image.state == "Ready":
        volume.state, volume.size = "Uploaded", image.virtual_size or 0
        _tell(session, volume, f"volume {volume.name} was uploaded", "INFO")
    else:
        aborted = job.cause == "expired"
        volume.state = "UploadAbandoned" if aborted else "UploadError"
        _tell(session, volume, f"volume {volume.name}: {image.error}", "WARN")


def _tell(session: Session, volume: Volume, text: str, level: Level) -> None:
    resource = ("Volume", volume.id)
    events.record(session, "VOLUME.UPLOAD", text, account_id=volume.account_id, level=level, resource=resource)


def note_snapshot(session: Session, image: StoredImage, job: StorageJob) -> None:
    """A snapshot's backup lost a connection; what its end means, the workflow that waits for it says."""
    snapshot = session.get(Snapshot, image.owner_id)
    if snapshot is not None and job.ended is None:
        warn(session, snapshot, f"snapshot {snapshot.name}: the connection was lost: {job.detail}; it goes on")


def warn(session: Session, snapshot: Snapshot, text: str) -> None:
    """Tell a snapshot's owner that something is not as it should be."""
    resource = ("Snapshot", snapshot.id)
    account = snapshot.account_id
    events.record(session, "SNAPSHOT.CREATE", text, account_id=account, level="WARN", resource=resource)
