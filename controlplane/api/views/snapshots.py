"""Snapshots and their policies as the API shows them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from controlplane.api.command import Response, shown
from controlplane.api.listing import OwnedResponse, owned_by
from controlplane.api.tagging import TagResponse, tags_of
from controlplane.storage.schedule import INTERVALS
from controlplane.store.models import Snapshot, SnapshotPolicy, Volume


class SnapshotResponse(OwnedResponse):
    """A snapshot."""

    id: str = shown("ID of the snapshot", ...)
    name: str = shown("name of the snapshot", ...)
    created: datetime = shown("when it was asked for", ...)
    state: str = shown("Creating, BackingUp, BackedUp, Destroying or Error", ...)
    status: str | None = shown("why it is in Error, or not in secondary storage")
    snapshottype: str = shown("MANUAL, HOURLY, DAILY, WEEKLY or MONTHLY", ...)
    intervaltype: str = shown("the same", ...)
    volumeid: str = shown("ID of its volume", ...)
    volumename: str = shown("name of its volume", ...)
    volumetype: str = shown("ROOT or DATADISK", ...)
    volumestate: str = shown("state of its volume", ...)
    virtualmachineid: str | None = shown("ID of the VM that has the volume now")
    zoneid: str = shown("ID of its zone", ...)
    zonename: str = shown("name of its zone", ...)
    virtualsize: int = shown("bytes of the disk", ...)
    physicalsize: int = shown("bytes that it takes", ...)
    locationtype: str = shown("where it is: PRIMARY, beside the volume, or SECONDARY", ...)
    revertable: bool = shown("its volume can go back to it", True)
    tags: list[TagResponse] = shown("its tags", [])


class SnapshotPolicyResponse(Response):
    """A snapshot policy."""

    id: str = shown("the ID of the snapshot policy", ...)
    volumeid: str = shown("the ID of the disk volume", ...)
    intervaltype: int = shown("the interval type: 0 hourly, 1 daily, 2 weekly, 3 monthly", ...)
    schedule: str = shown("time the snapshot is scheduled to be taken.", ...)
    timezone: str = shown("the time zone of the snapshot policy", ...)
    maxsnaps: int = shown("maximum number of snapshots retained", ...)
    fordisplay: bool = shown("is this policy for display to the regular user", ...)
    nextrun: datetime = shown("when its next snapshot is due", ...)


def show_snapshots(session: Session, snapshots: Sequence[Snapshot]) -> list[SnapshotResponse]:
    """Snapshots."""
    # filled in advance for all rows; the identity map then answers what follows
    session.scalars(select(Volume).where(Volume.id.in_({row.volume_id for row in snapshots}))).all()
    tags = tags_of(session, "Snapshot", [row.id for row in snapshots])
    return [
        SnapshotResponse(
            **owned_by(row.account),
            id=row.id,
            name=row.name,
            created=row.created,
            state=row.state,
            status=row.detail,
            snapshottype=row.kind,
            intervaltype=row.kind,
            volumeid=row.volume_id,
            volumename=row.volume.name,
            volumetype=row.volume_type,
            volumestate=row.volume.state,
            virtualmachineid=row.volume.vm_id,
            zoneid=row.zone_id,
            zonename=row.zone.name,
            virtualsize=row.size,
            physicalsize=row.physical_size,
            locationtype="PRIMARY" if row.pool_id is not None else "SECONDARY",
            revertable=row.state == "BackedUp" and row.volume.removed is None,
            tags=tags.get(row.id, []),
        )
        for row in snapshots
    ]


def show_policies(policies: Sequence[SnapshotPolicy]) -> list[SnapshotPolicyResponse]:
    """Snapshot policies."""
    return [
        SnapshotPolicyResponse(
            id=row.id,
            volumeid=row.volume_id,
            intervaltype=INTERVALS.index(row.interval),
            schedule=row.schedule,
            timezone=row.timezone,
            maxsnaps=row.max_snaps,
            fordisplay=row.for_display,
            nextrun=row.next_run,
        )
        for row in policies
    ]
