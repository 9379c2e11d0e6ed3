"""Snapshots and their policies: rows, and what is due (guide: chapter 13.5)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from controlplane.errors import InUseError, ParameterError
from controlplane.storage import volumes
from controlplane.storage.schedule import Schedule, parse
from controlplane.store.models import Snapshot, SnapshotPolicy, Volume, now
from controlplane.timezones import zone

MANUAL = "MANUAL"


@dataclass(frozen=True)
class Due:
    """A policy whose time has come; ``since`` is when it was due first."""

    policy_id: str
    since: datetime


def create(
    session: Session, volume: Volume, *, name: str | None = None, policy: SnapshotPolicy | None = None
) -> Snapshot:
    """The row of a new snapshot of a volume. Raises for a volume that cannot have one now."""
    volumes.need_settled(session, volume, "make a snapshot of")
    volumes.need_disk(volume)
    if volume.state != "Ready" and not volume.path:
        raise ParameterError(f"volumeid: volume {volume.name} is nowhere yet; there is nothing in it")
    moment = now()
    owner = volume.vm.name if volume.vm is not None else "detached"
    snapshot = Snapshot(
        name=name or f"{owner}_{volume.name}_{moment:%Y%m%d%H%M%S}",
        account_id=volume.account_id,
        zone_id=volume.zone_id,
        volume_id=volume.id,
        volume_type=volume.type,
        policy_id=policy.id if policy is not None else None,
        kind=policy.interval if policy is not None else MANUAL,
        pool_id=volume.pool_id,
        size=volume.size,
    )
    session.add(snapshot)
    session.flush()
    snapshot.path = f"snapshots/{snapshot.id}.qcow2"
    return snapshot


def need_there(snapshot: Snapshot, to: str) -> None:
    """ParameterError unless the snapshot was made."""
    if snapshot.state != "BackedUp":
        raise ParameterError(f"Unable to {to} snapshot {snapshot.name}: it is {snapshot.state}")


def check_unused(session: Session, snapshot: Snapshot) -> None:
    """InUseError while a volume is being made of a snapshot, or one goes back to it."""
    making = select(Volume.name).where(
        Volume.removed.is_(None), Volume.snapshot_id == snapshot.id, Volume.state.in_(("Allocated", "Creating"))
    )
    if (name := session.scalars(making.limit(1)).first()) is not None:
        raise InUseError(f"volume {name} is being made of snapshot {snapshot.name}; wait until that has ended")
    if snapshot.state in ("Creating", "BackingUp"):
        raise InUseError(f"snapshot {snapshot.name} is being made; wait until that has ended")
    if snapshot.volume.state == "Reverting":
        raise InUseError(f"volume {snapshot.volume.name} is going back to a snapshot; wait until that has ended")


def schedule_of(policy: SnapshotPolicy) -> Schedule:
    """When the snapshots of a policy are made."""
    return parse(policy.interval, policy.schedule, zone(policy.timezone))


def due(session: Session, moment: datetime) -> list[Due]:
    """Policies whose time has come. What was missed while nothing ran is made up for by one snapshot."""
    statement = select(SnapshotPolicy.id, SnapshotPolicy.next_run).where(SnapshotPolicy.next_run <= moment)
    return [Due(row.id, row.next_run) for row in session.execute(statement.order_by(SnapshotPolicy.next_run))]


def unchanged(session: Session, policy: SnapshotPolicy) -> bool:
    """Whether nothing can have been written to the volume since its last snapshot (guide: chapter 13.5.4)."""
    idle = policy.volume.idle_since
    if idle is None:
        return False
    statement = select(Snapshot.id).where(
        Snapshot.volume_id == policy.volume_id,
        Snapshot.removed.is_(None),
        Snapshot.state == "BackedUp",
        Snapshot.created > idle,
    )
    return session.scalars(statement.limit(1)).first() is not None


def surplus(session: Session, policy: SnapshotPolicy) -> list[Snapshot]:
    """The oldest snapshots of a policy, beyond those that it keeps."""
    statement = select(Snapshot).where(
        Snapshot.policy_id == policy.id, Snapshot.removed.is_(None), Snapshot.state == "BackedUp"
    )
    kept = list(session.scalars(statement.order_by(Snapshot.created.desc(), Snapshot.id)))
    return kept[policy.max_snaps :]
