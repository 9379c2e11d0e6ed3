"""The sanity check of usage records (guide: chapter 14.1, usage.sanity.check.interval): wrong ones are told of."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session, aliased

from controlplane.store.models import Template, UsageJob, UsageRecord, Vm
from controlplane.usage.types import UsageType

INTERVAL = "usage.sanity.check.interval"
#: number of the alert (CloudStack: ALERT_TYPE_USAGE_SANITY_RESULT)
ALERT = 21
#: enough to see what is wrong
MOST = 20
_HOURLY = [kind for kind in UsageType if not kind.in_bytes]


def check(session: Session, until: datetime) -> list[str]:
    """What is wrong with the records made since the last check; notes that they were checked up to ``until``."""
    since = session.scalar(select(func.max(UsageJob.end)).where(UsageJob.kind == "sanity"))
    recent: tuple[Any, ...] = () if since is None else (UsageRecord.end > since,)
    found = [*_too_long(session, recent), *_after_the_end(session, recent), *_twice(session, recent)]
    session.add(UsageJob(kind="sanity", start=since or until, end=until, records=len(found)))
    session.flush()
    return found[:MOST]


def is_due(session: Session, days: int, moment: datetime) -> bool:
    """Whether the last check was ``days`` ago, or there was none; 0 days: never."""
    if days <= 0:
        return False
    last = session.scalar(select(func.max(UsageJob.end)).where(UsageJob.kind == "sanity"))
    return last is None or last + timedelta(days=days) <= moment


def _line(record: UsageRecord, what: str) -> str:
    kind = UsageType(record.usage_type).description
    return f"record {record.id} ({kind} of {record.subject_id}, from {record.start:%Y-%m-%d %H:%M}) {what}"


def _too_long(session: Session, recent: tuple[Any, ...]) -> Iterator[str]:
    for record in session.scalars(select(UsageRecord).where(UsageRecord.usage_type.in_(_HOURLY), *recent)):
        # a second more is rounding
        hours = (record.end - record.start + timedelta(seconds=1)) / timedelta(hours=1)
        if not 0 <= record.raw_usage <= hours:
            yield _line(record, f"has {record.raw_usage:.4f} hours in {hours:.4f}")


def _after_the_end(session: Session, recent: tuple[Any, ...]) -> Iterator[str]:
    ended = func.coalesce(Vm.destroyed, Vm.removed)
    for kinds, model, gone in (
        ((UsageType.RUNNING_VM, UsageType.ALLOCATED_VM), Vm, ended),
        ((UsageType.TEMPLATE, UsageType.ISO), Template, Template.removed),
    ):
        # a VM that was recovered is there again
        there = Vm.state.in_(("Destroyed", "Expunging")) if model is Vm else Template.removed.is_not(None)
        statement = (
            select(UsageRecord)
            .join(model, model.id == UsageRecord.subject_id)
            .where(UsageRecord.usage_type.in_(kinds), there, gone < UsageRecord.start, *recent)
        )
        for record in session.scalars(statement):
            yield _line(record, "is of a time after its resource was removed")


def _twice(session: Session, recent: tuple[Any, ...]) -> Iterator[str]:
    other = aliased(UsageRecord)
    statement = (
        select(UsageRecord)
        .join(
            other,
            (other.subject_id == UsageRecord.subject_id)
            & (other.usage_type == UsageRecord.usage_type)
            & (other.usage_id == UsageRecord.usage_id)
            & (other.id != UsageRecord.id),
        )
        .where(
            other.start < UsageRecord.end,
            UsageRecord.start < other.end,
            # records of one stretch are of one resource in several shapes
            or_(other.start != UsageRecord.start, other.end != UsageRecord.end),
            *recent,
        )
        .distinct()
    )
    for record in session.scalars(statement):
        yield _line(record, "tells of time that another record tells of too")
