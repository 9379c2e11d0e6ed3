"""Asking for a new desired state: a generation more, in the transaction that changes the rows it is compiled from."""

from __future__ import annotations

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from controlplane.store.models import Appliance


def desire(session: Session, appliance_id: str) -> int:
    """Bump the appliance's desired generation in the caller's transaction and return it.

    After the commit, wake the reconciler (``runtime.wake(appliance_id)``); without it the change waits for the
    next poll. Raises NoResultFound for an unknown appliance.
    """
    statement = (
        update(Appliance)
        .where(Appliance.id == appliance_id)
        .values(desired_generation=Appliance.desired_generation + 1)
        .returning(Appliance.desired_generation)
    )
    return session.execute(statement).scalar_one()


def generation_of(session: Session, appliance: Appliance) -> int:
    """The generation that is desired of an appliance now, with what the caller's transaction has asked for."""
    session.flush()
    session.refresh(appliance, ["desired_generation"])
    return appliance.desired_generation


def desire_network(session: Session, network_id: str) -> tuple[str, int] | None:
    """``desire`` for the router that serves a network: (appliance id, generation).

    None when there is nothing to wait for: the network is not implemented, or an operator stopped its router. The
    rows then take effect when a router starts.
    """
    session.flush()
    row = session.execute(
        select(Appliance.id, Appliance.desired_state)
        .where(Appliance.network_id == network_id, Appliance.role == "router", Appliance.removed.is_(None))
        .order_by(Appliance.created.desc())
    ).first()
    if row is None:
        return None
    generation = desire(session, row.id)
    return (row.id, generation) if row.desired_state == "Running" else None
