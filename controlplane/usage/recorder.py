"""Spans of usage, written by the transaction that changes what is metered: neither is there without the other.

Level-triggered: before a commit, what the touched rows are worth now (``meters``) is compared with the spans that
last, so every way of changing a row is seen, the deletion of many at once included. ``catch_up`` does the same for
all rows when the control plane starts.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from sqlalchemy import event, insert, select, update
from sqlalchemy.orm import ORMExecuteState, Session, UOWTransaction

from controlplane.store.models import Base, UsageSpan, new_id, now
from controlplane.usage.meters import METERS, Meter, Worth

log = logging.getLogger(__name__)

_TOUCHED = "usage.touched"
#: SQLite takes 32,766 parameters a statement
_MANY = 5_000


class RecordingSession(Session):
    """A session whose transactions record usage."""


def _models() -> set[type[Base]]:
    return {model for meter in METERS for model in meter.touched_by}


def _touch(session: Session, model: type[Base], ids: Iterable[str]) -> None:
    session.info.setdefault(_TOUCHED, {}).setdefault(model, set()).update(ids)


@event.listens_for(RecordingSession, "after_flush")
def _flushed(session: Session, _context: UOWTransaction) -> None:
    models = _models()
    for row in (*session.new, *session.dirty, *session.deleted):
        if type(row) in models:
            _touch(session, type(row), [row.id])


@event.listens_for(RecordingSession, "do_orm_execute")
def _executed(state: ORMExecuteState) -> None:
    """``update()`` and ``delete()`` of many rows pass by the flush: note which ones they are about to hit."""
    if not (state.is_update or state.is_delete) or state.bind_mapper is None:
        return
    model: Any = state.bind_mapper.class_
    if model in _models():
        where: Any = getattr(state.statement, "whereclause", None)
        statement = select(model.id) if where is None else select(model.id).where(where)
        _touch(state.session, model, state.session.scalars(statement).all())


@event.listens_for(RecordingSession, "before_commit")
def _committing(session: Session) -> None:
    session.flush()
    touched: dict[type[Base], set[str]] = session.info.pop(_TOUCHED, {})
    if not touched:
        return
    moment = now()
    for meter in METERS:
        ids: set[str] = set()
        for model, rows in touched.items():
            if model in meter.touched_by and rows:
                related = meter.touched_by[model]
                ids |= rows if related is None else set(session.scalars(related(list(rows))))
        if ids:
            _bring_up_to_date(session, meter, sorted(ids), moment)


@event.listens_for(RecordingSession, "after_soft_rollback")
def _rolled_back(session: Session, previous: Any) -> None:
    # a savepoint's rows are looked at once more, which does no harm; nothing is left of a whole transaction
    if previous.parent is None:
        session.info.pop(_TOUCHED, None)


def catch_up(session: Session) -> int:
    """Bring the spans of all rows up to date; how many had to be changed. For rows from before there was metering."""
    moment = now()
    return sum(_bring_up_to_date(session, meter, None, moment) for meter in METERS)


def _bring_up_to_date(session: Session, meter: Meter, ids: list[str] | None, moment: datetime) -> int:
    if ids is not None and len(ids) > _MANY:
        return sum(
            _bring_up_to_date(session, meter, ids[start : start + _MANY], moment) for start in range(0, len(ids), _MANY)
        )
    worth = {(one.usage_type, one.subject_id): one for one in meter.read(session, ids)}
    lasting = select(UsageSpan).where(UsageSpan.end.is_(None), UsageSpan.usage_type.in_(meter.types))
    if ids is not None:
        lasting = lasting.where(UsageSpan.subject_id.in_(ids))
    ended, kept = [], set()
    for span in session.scalars(lasting):
        key = (span.usage_type, span.subject_id)
        one = worth.get(key)  # type: ignore[arg-type]
        if one is not None and one.counts is not False and _same(span, one):
            kept.add(key)
        else:
            ended.append(span.id)
    begun = [
        {
            "id": new_id(),
            "created": moment,
            "usage_type": int(one.usage_type),
            "subject_id": one.subject_id,
            "account_id": one.account_id,
            "zone_id": one.zone_id,
            "begin": moment,
            "details": dict(one.details),
        }
        for key, one in worth.items()
        if one.counts and key not in kept
    ]
    if ended:
        session.execute(
            update(UsageSpan)
            .where(UsageSpan.id.in_(ended))
            .values(end=moment)
            .execution_options(synchronize_session=False)
        )
    if begun:
        session.execute(insert(UsageSpan), begun)
    return len(ended) + len(begun)


def _same(span: UsageSpan, one: Worth) -> bool:
    return (span.account_id, span.zone_id, span.details) == (one.account_id, one.zone_id, dict(one.details))
