"""Snapshots of volumes (guide: chapter 13.5)."""

from __future__ import annotations

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from controlplane import jobs
from controlplane.api import listing, tagging
from controlplane.api.call import Call
from controlplane.api.command import Async, Params, ScopedListParams, answer, command, param
from controlplane.api.tagging import TagEntry
from controlplane.api.views.snapshots import SnapshotResponse, show_snapshots
from controlplane.errors import ParameterError
from controlplane.network import limits
from controlplane.storage import snapshots, volumes
from controlplane.storage.settings import SNAPSHOTS
from controlplane.store.models import Account, AsyncJob, Snapshot, Volume


class SnapshotId(Params):
    """The id of a snapshot."""

    id: str = param("id of the snapshot", entity="Snapshot")


class CreateSnapshot(Params):
    volumeid: str = param("id of the volume", entity="Volume")
    name: str | None = param("name of the snapshot; made from VM, volume and time unless given", default=None)
    quiescevm: bool = param(
        "make the file systems of a running VM consistent first; needs the QEMU guest agent in it", default=False
    )
    account: str | None = param("owner of the volume; accepted for clients that send it", default=None)
    domainid: str | None = param("domain of the owner", default=None, entity="Domain")


@command(
    "createSnapshot",
    description="Makes a snapshot of a volume: what is in it at one moment, also while its VM runs",
    params=CreateSnapshot,
    response=SnapshotResponse,
    object_name="snapshot",
    is_async=True,
    creates=True,
    event="SNAPSHOT.CREATE",
)
def create_snapshot(call: Call, params: CreateSnapshot) -> Async:
    volume = call.lookup(Volume, params.volumeid, "volumeid")
    check_room(call, volume.account)
    snapshot = snapshots.create(call.session, volume, name=params.name)
    return flow(snapshot, f"creating snapshot of volume {volume.name}", "create_snapshot", quiesce=params.quiescevm)


def check_room(call: Call, owner: Account) -> None:
    """Raise LimitError when the account has all the snapshots that it may have."""
    call.check_limit(owner, SNAPSHOTS, limits.used(call.session, owner, SNAPSHOTS))
    limits.check_secondary(call.session, call.configuration, owner)


def flow(snapshot: Snapshot, description: str, workflow: str, **arguments: object) -> Async:
    """The answer of a command about a snapshot that a workflow carries out."""
    return answer("Snapshot", snapshot.id, "snapshot", description, workflow, **arguments)


@jobs.completion("snapshot.show")
def show_snapshot(session: Session, job: AsyncJob, snapshot_id: str) -> SnapshotResponse:
    """A snapshot as the result of a job."""
    snapshot = session.get_one(Snapshot, snapshot_id)
    session.refresh(snapshot)
    return show_snapshots(session, [snapshot])[0]


class ListSnapshots(ScopedListParams):
    id: str | None = param("id of the snapshot", default=None, entity="Snapshot")
    ids: list[str] | None = param("ids of snapshots", default=None)
    name: str | None = param("name of the snapshot", default=None)
    volumeid: str | None = param("snapshots of this volume", default=None, entity="Volume")
    zoneid: str | None = param("snapshots of this zone", default=None, entity="Zone")
    snapshottype: str | None = param("MANUAL, RECURRING, HOURLY, DAILY, WEEKLY or MONTHLY", default=None)
    intervaltype: str | None = param("HOURLY, DAILY, WEEKLY or MONTHLY", default=None)
    tags: list[TagEntry] | None = param("snapshots with all of these tags", default=None)


@command(
    "listSnapshots",
    description="Lists snapshots",
    params=ListSnapshots,
    response=SnapshotResponse,
    object_name="snapshot",
)
def list_snapshots(call: Call, params: ListSnapshots) -> tuple[int, list[SnapshotResponse]]:
    statement = select(Snapshot).where(Snapshot.removed.is_(None)).order_by(Snapshot.created, Snapshot.id)
    by_id = params.id is not None or params.ids is not None
    statement = listing.scope(call, statement, Snapshot.account_id, params, by_id=by_id)
    for column, value in (
        (Snapshot.id, params.id),
        (Snapshot.name, params.name),
        (Snapshot.volume_id, params.volumeid),
        (Snapshot.zone_id, params.zoneid),
    ):
        if value is not None:
            statement = statement.where(column == value)
    if params.ids is not None:
        statement = statement.where(Snapshot.id.in_(params.ids))
    for kind in (params.snapshottype, params.intervaltype):
        if kind is not None and kind.upper() == "RECURRING":
            statement = statement.where(Snapshot.kind != snapshots.MANUAL)
        elif kind is not None:
            statement = statement.where(func.lower(Snapshot.kind) == kind.lower())
    statement = tagging.with_tags(statement, "Snapshot", Snapshot.id, params.tags)
    statement = listing.search(statement, params.keyword, Snapshot.name)
    return listing.fetch(call, statement, params, lambda rows: show_snapshots(call.session, rows))


@command(
    "deleteSnapshot",
    description="Deletes a snapshot",
    params=SnapshotId,
    is_async=True,
    event="SNAPSHOT.DELETE",
)
def delete_snapshot(call: Call, params: SnapshotId) -> Async:
    snapshot = call.lookup(Snapshot, params.id)
    snapshots.check_unused(call.session, snapshot)
    return Async(
        "Snapshot",
        snapshot.id,
        f"deleting snapshot {snapshot.name}",
        workflow="delete_snapshot",
        arguments={"snapshot_id": snapshot.id},
    )


@command(
    "revertSnapshot",
    description="Makes a volume what it was in a snapshot; its VM must be stopped. What came later is lost",
    params=SnapshotId,
    response=SnapshotResponse,
    object_name="snapshot",
    is_async=True,
    event="SNAPSHOT.REVERT",
)
def revert_snapshot(call: Call, params: SnapshotId) -> Async:
    snapshot = call.lookup(Snapshot, params.id)
    snapshots.need_there(snapshot, "go back to")
    volume = snapshot.volume
    if volume.removed is not None:
        raise ParameterError(f"id: the volume of snapshot {snapshot.name} is gone; make a new one of it (createVolume)")
    volumes.need_settled(call.session, volume, "revert")
    if volume.vm is not None and volume.vm.state != "Stopped":
        raise ParameterError(f"id: stop virtual machine {volume.vm.name} first")
    volume.state = "Reverting"
    return flow(
        snapshot,
        f"reverting volume {volume.name} to snapshot {snapshot.name}",
        "revert_snapshot",
        volume_id=volume.id,
    )
