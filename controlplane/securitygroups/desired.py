"""Asking for a new policy: a generation more, in the transaction that changes the rows it is compiled from."""

from __future__ import annotations

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from controlplane.store.models import PortPolicy

_ID = "ports"


def desire(session: Session) -> int:
    """Raise the policy's desired generation and return it. After the commit set ``Core.policy_changed``; without that
    the keeper notices a moment later."""
    session.flush()
    statement = (
        update(PortPolicy)
        .where(PortPolicy.id == _ID)
        .values(desired_generation=PortPolicy.desired_generation + 1)
        .returning(PortPolicy.desired_generation)
    )
    generation = session.execute(statement).scalar_one_or_none()
    if generation is None:
        session.add(PortPolicy(id=_ID, desired_generation=1))
        session.flush()
        return 1
    return generation


def progress(session: Session) -> tuple[int, int, str | None]:
    """(desired generation, observed generation, why the hosts do not follow)."""
    row = session.execute(
        select(PortPolicy.desired_generation, PortPolicy.observed_generation, PortPolicy.last_error)
    ).first()
    return (row.desired_generation, row.observed_generation, row.last_error) if row else (0, 0, None)


def observe(session: Session, generation: int, problem: str | None) -> None:
    """Record what the hosts enforce, or why they do not."""
    values: dict[str, object] = {"last_error": problem}
    if problem is None:
        values["observed_generation"] = generation
    session.execute(update(PortPolicy).where(PortPolicy.id == _ID).values(**values))
