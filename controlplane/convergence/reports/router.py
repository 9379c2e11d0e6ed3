"""Reports of a router: passwords that guests fetched, and which guests its load balancer finds up."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from appliance.schema.status import Status
from controlplane.convergence.desired import desire
from controlplane.convergence.reports import vpn
from controlplane.store.models import Appliance, Vm


def has_news(appliance: Appliance, status: Status) -> bool:
    """Whether ``take`` would change anything."""
    return bool(_fetched(status)) or (appliance.balanced or {}) != _balanced(status) or vpn.has_news(appliance, status)


def take(session: Session, appliance: Appliance, status: Status) -> None:
    """Bring the router's row and its guests' passwords up to date."""
    if (appliance.balanced or {}) != (balanced := _balanced(status)):
        appliance.balanced = balanced
    vpn.take(session, appliance, status)
    _forget_passwords(session, appliance, _fetched(status))


def _fetched(status: Status) -> list[str]:
    report = status.reports.get("password")
    ids = report.get("fetched") if isinstance(report, dict) else None
    return [item for item in ids if isinstance(item, str)] if isinstance(ids, list) else []


def _balanced(status: Status) -> dict[str, Any]:
    """Of a load balancer: rule id -> "address:port" -> "Up" or "Down"."""
    report = status.reports.get("loadbalancer")
    members = report.get("members") if isinstance(report, dict) else None
    return members if isinstance(members, dict) else {}


def _forget_passwords(session: Session, appliance: Appliance, ids: list[str]) -> None:
    if not ids:
        return
    held = Vm.password_id.in_(ids)
    if session.scalars(select(Vm.id).where(held).limit(1)).first() is not None:
        session.execute(update(Vm).where(held).values(password_id=None, password=None))
        # the next document goes without them
        desire(session, appliance.id)
