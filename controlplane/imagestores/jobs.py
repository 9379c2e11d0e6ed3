"""Work of SSVMs: asked for here, given to one of the zone, followed by its reports, taken back or given to another.

    row = jobs.start(session, zone_id=..., kind="convert", store_id=..., path=..., purpose=..., subject_id=...)
    # after the commit core.storage_changed.set(): the keeper gives it to an SSVM and wakes that
    jobs.wait(core, row.id, timeout)  # where somebody waits for it; else an entry in imagestores.outcomes

``fields`` are those of ``ssvm.services.storage.model.jobs`` but for id, store, path, kind and attempt.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable
from datetime import datetime
from typing import Any

from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session

from controlplane.convergence.desired import desire
from controlplane.core import Core, Stopping
from controlplane.errors import ApiError
from controlplane.imagestores import shares
from controlplane.store.models import Appliance, ImageStore, StorageJob, now
from ssvm.services.storage.model.report import JobReport

#: seconds between two looks at a job that somebody waits for
LOOK = 0.2
_SHOWN = ("phase", "received", "total", "percent", "rate", "seconds_left", "lost", "detail")


def start(
    session: Session,
    *,
    zone_id: str,
    kind: str,
    store_id: str,
    path: str,
    purpose: str,
    subject_id: str,
    fields: dict[str, Any] | None = None,
    appliance_id: str | None = None,
) -> StorageJob:
    """Ask for something to be done. ``appliance_id``: only that SSVM can do it; its next document has it."""
    row = StorageJob(
        zone_id=zone_id,
        appliance_id=appliance_id,
        kind=kind,
        store_id=store_id,
        path=path,
        purpose=purpose,
        subject_id=subject_id,
        fields=fields or {},
    )
    session.add(row)
    session.flush()
    if appliance_id is not None:
        desire(session, appliance_id)
    return row


def live(session: Session, subject_id: str) -> list[StorageJob]:
    """Jobs about something that have not ended."""
    statement = select(StorageJob).where(StorageJob.subject_id == subject_id, StorageJob.ended.is_(None))
    return list(session.scalars(statement.order_by(StorageJob.created)))


def newest(session: Session, subject_ids: Collection[str]) -> dict[str, StorageJob]:
    """The newest job about each of these."""
    statement = select(StorageJob).where(StorageJob.subject_id.in_(subject_ids)).order_by(StorageJob.created)
    return {row.subject_id: row for row in session.scalars(statement)}


def cancel(session: Session, row: StorageJob) -> None:
    """Give a job up; the SSVM removes its parts."""
    if row.ended is None:
        row.state, row.ended, row.rate, row.seconds_left = "cancelled", now(), 0, None
        if row.appliance_id is not None:
            desire(session, row.appliance_id)
        session.flush()


def again(session: Session, row: StorageJob) -> None:
    """Have a failed job done again."""
    row.state, row.ended, row.cause, row.message = "waiting", None, None, None
    row.attempt += 1
    if row.appliance_id is not None:
        desire(session, row.appliance_id)
    session.flush()


def load(session: Session, appliance_ids: Collection[str]) -> dict[str, int]:
    """How many jobs each of these SSVMs has."""
    statement = (
        select(StorageJob.appliance_id, func.count())
        .where(StorageJob.appliance_id.in_(appliance_ids), StorageJob.ended.is_(None))
        .group_by(StorageJob.appliance_id)
    )
    found = {row[0]: row[1] for row in session.execute(statement)}
    return {id: found.get(id, 0) for id in appliance_ids}


def unassigned(session: Session, zone_id: str) -> list[StorageJob]:
    """Jobs of a zone that no SSVM has, the oldest first."""
    statement = select(StorageJob).where(
        StorageJob.zone_id == zone_id, StorageJob.appliance_id.is_(None), StorageJob.ended.is_(None)
    )
    return list(session.scalars(statement.order_by(StorageJob.created, StorageJob.id)))


def assign(session: Session, zone_id: str, serving: Iterable[Appliance], most: int) -> None:
    """Give jobs that wait to SSVMs that serve, at most ``most`` each, and have them get new documents.

    One of two jobs about the same object waits until the other has ended: it may be another SSVM's.
    """
    there = {row.id: row for row in serving}
    # copies need two, see ``imagestores.copies``
    waiting = [job for job in unassigned(session, zone_id) if job.kind != "copy"]
    if not there or not waiting:
        return
    count = load(session, list(there))
    statement = select(StorageJob.store_id, StorageJob.path)
    taken = {
        tuple(row)
        for row in session.execute(statement.where(StorageJob.appliance_id.is_not(None), StorageJob.ended.is_(None)))
    }
    woken = set()
    for job in waiting:
        able = [id for id, row in there.items() if count[id] < most and _has_stores(session, row, job)]
        if not able or (job.store_id, job.path) in taken:
            continue
        chosen = min(able, key=lambda id: count[id])
        job.appliance_id = chosen
        count[chosen] += 1
        taken.add((job.store_id, job.path))
        woken.add(chosen)
    session.flush()
    for id in woken:
        desire(session, id)


def has_store(session: Session, appliance: Appliance, store_id: str) -> bool:
    """Whether an SSVM's machine has what it needs of a store: directories are there since its start."""
    if store_id in appliance.shares:
        return True
    store = session.get(ImageStore, store_id)
    return store is not None and store.provider not in shares.DIRECTORIES


def _has_stores(session: Session, appliance: Appliance, job: StorageJob) -> bool:
    needed = [job.store_id, *([job.fields["source_store"]] if "source_store" in job.fields else [])]
    return all(has_store(session, appliance, store_id) for store_id in needed)


def release(session: Session, appliance_id: str) -> None:
    """An SSVM is gone: another one goes on with its jobs, from the parts that are in the stores."""
    session.execute(
        update(StorageJob)
        .where(StorageJob.appliance_id == appliance_id, StorageJob.ended.is_(None))
        .values(appliance_id=None, state="waiting", rate=0, seconds_left=None)
    )


def take(session: Session, appliance_id: str, reports: Iterable[JobReport]) -> list[StorageJob]:
    """Note how an SSVM's jobs are; those that have ended since, and those that lost a connection, in this order."""
    statement = select(StorageJob).where(StorageJob.appliance_id == appliance_id, StorageJob.ended.is_(None))
    rows = {row.id: row for row in session.scalars(statement)}
    news = []
    for report in reports:
        row = rows.get(report.id)
        if row is None or report.attempt != row.attempt:
            continue
        lost = report.lost > row.lost
        for name in _SHOWN:
            setattr(row, name, getattr(report, name))
        row.state = report.state
        if report.state in ("done", "failed"):
            _end(row, report)
            news.append(row)
        elif lost:
            news.append(row)
    session.flush()
    if any(row.ended is not None for row in news):
        # the next document goes without them
        desire(session, appliance_id)
    return news


def _end(row: StorageJob, report: JobReport) -> None:
    row.ended, row.rate, row.seconds_left = now(), 0, None
    if report.failure is not None:
        row.cause, row.message = report.failure.cause, report.failure.message
    if report.result is not None:
        row.result = report.result.model_dump()


def wait(core: Core, job_id: str, timeout: float, stopping: Callable[[], bool] | None = None) -> StorageJob:
    """The job once it is done. Raises ApiError when it failed, was cancelled, or takes longer than ``timeout`` seconds.

    ``stopping``: says whether the control plane is being stopped; Stopping is raised then.
    """
    deadline = time.monotonic() + timeout
    while True:
        with core.database.reading() as session:
            row = session.get(StorageJob, job_id)
            if row is None or row.state == "cancelled":
                raise ApiError("it was given up meanwhile")
            if row.state == "failed":
                raise ApiError(row.message or "secondary storage could not do it")
            if row.ended is not None:
                return row
        if stopping is not None and stopping():
            raise Stopping
        if time.monotonic() > deadline:
            raise ApiError(f"secondary storage did not do it in {timeout:.0f} s; try again")
        time.sleep(LOOK)


def forget(session: Session, before: datetime) -> None:
    """Remove the rows of jobs that ended before a time."""
    session.execute(delete(StorageJob).where(StorageJob.ended < before))
