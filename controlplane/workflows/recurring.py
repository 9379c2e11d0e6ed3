"""Snapshots that policies make: jobs like those of createSnapshot, when their time has come (guide: chapter 13.5.2)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from controlplane import events, jobs
from controlplane.api.command import Async, commands
from controlplane.core import Core
from controlplane.errors import ApiError, InUseError
from controlplane.network import limits
from controlplane.storage import snapshots, volumes
from controlplane.storage.settings import SECONDARY, SNAPSHOTS
from controlplane.store.defaults import ADMIN_USER_ID
from controlplane.store.models import SnapshotPolicy, User, now

#: a snapshot that is made so much later than it should have been is told
LATE = timedelta(minutes=10)

#: starts a workflow: name, job's id, arguments
Start = Callable[[str, str, dict[str, Any]], None]


def make_due(core: Core, start: Start, moment: datetime | None = None) -> None:
    """Begin the snapshots that are due. A volume that is busy has its turn at the next look."""
    moment = moment or now()
    with core.database.reading() as session:
        due = snapshots.due(session, moment)
    for one in due:
        with core.database.transaction() as session:
            begun = _begin(core, session, one, moment)
        if begun is not None:
            start("create_snapshot", begun[0], {"snapshot_id": begun[1]})


def _begin(core: Core, session: Session, due: snapshots.Due, moment: datetime) -> tuple[str, str] | None:
    """Make the rows of one snapshot; ids of job and snapshot."""
    policy = session.get(SnapshotPolicy, due.policy_id)
    if policy is None or policy.next_run > moment:
        return None
    volume = policy.volume
    gone = volume.state in ("Destroy", "Expunging", "Expunged")
    if not gone and volume.state not in volumes.SETTLED:
        # the next look finds it still due
        return None
    skipped = gone or not volume.path or snapshots.unchanged(session, policy)
    if not skipped:
        try:
            for setting in (SNAPSHOTS, SECONDARY):
                used = limits.used(session, volume.account, setting)
                limits.check(session, core.configuration, volume.account, setting, used=used)
            snapshot = snapshots.create(session, volume, policy=policy)
        except InUseError:
            return None
        except ApiError as error:
            text = f"no {policy.interval.lower()} snapshot of volume {volume.name} was made: {error.text}"
            _warn(session, policy, text)
            skipped = True
    policy.next_run = snapshots.schedule_of(policy).next_after(moment)
    if skipped:
        return None
    if moment - due.since > LATE:
        text = f"a {policy.interval.lower()} snapshot of volume {volume.name} is made late: it was due at {due.since}"
        _warn(session, policy, text)
    user = session.scalars(
        select(User).where(User.account_id == volume.account_id, User.removed.is_(None)).order_by(User.created)
    ).first()
    job = jobs.create(
        session,
        commands()["createsnapshot"],
        Async(
            "Snapshot",
            snapshot.id,
            f"creating {policy.interval.lower()} snapshot of volume {volume.name}",
            workflow="create_snapshot",
            completion="snapshot.show",
            arguments={"snapshot_id": snapshot.id},
        ),
        user=user or session.get_one(User, ADMIN_USER_ID),
        account=volume.account,
    )
    return job.id, snapshot.id


def _warn(session: Session, policy: SnapshotPolicy, text: str) -> None:
    volume = policy.volume
    events.record(
        session, "SNAPSHOT.CREATE", text, account_id=volume.account_id, level="WARN", resource=("Volume", volume.id)
    )
