"""Taking in what an appliance reports: generation, health, repairs, fetched passwords.

Each function writes only what changed, for appliances are looked at every few seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from appliance.schema.status import Health, Repair, Status
from controlplane import events
from controlplane.convergence.desired import desire
from controlplane.events import Level
from controlplane.store.models import Appliance, AsyncJob, Vm


def has_news(appliance: Appliance, status: Status, health: Health) -> bool:
    """Whether taking these in would change anything; if not, no write transaction is needed."""
    return (
        status.generation != appliance.observed_generation
        or status.version != appliance.version
        or any(repair.number > appliance.repairs_seen for repair in status.repairs)
        or bool(_fetched(status))
        or (appliance.balanced or {}) != _balanced(status)
        or health.healthy != appliance.healthy
        or _detail(health) != appliance.health
    )


def take_status(session: Session, appliance: Appliance, status: Status) -> None:
    """Bring the appliance's row, its events and its guests' passwords up to date with ``status``."""
    if status.generation > appliance.desired_generation:
        # our tables are older than the appliance (restored from a backup): it accepts only a newer generation, and
        # what it has is not what the tables say
        appliance.desired_generation, appliance.observed_generation = status.generation + 1, 0
    elif status.generation != appliance.observed_generation:
        # lower: it was rebuilt or lost its state, so it is behind and will be given everything again
        appliance.observed_generation = status.generation
    if status.version != appliance.version:
        appliance.version = status.version
    if (appliance.balanced or {}) != (balanced := _balanced(status)):
        appliance.balanced = balanced
    _record_repairs(session, appliance, status.repairs)
    _forget_passwords(session, appliance, _fetched(status))


def _record_repairs(session: Session, appliance: Appliance, repairs: Sequence[Repair]) -> None:
    newest = max((repair.number for repair in repairs), default=0)
    if newest < appliance.repairs_seen and (repairs or appliance.observed_generation == 0):
        appliance.repairs_seen = 0  # the appliance lost its state and counts from 1 again
    for repair in repairs:
        if repair.number > appliance.repairs_seen:
            outcome = f"could not be repaired: {repair.error}" if repair.error else "repaired"
            text = f"router {appliance.name}: {repair.service}: {repair.reason}: {outcome}"
            _event(session, appliance, "ROUTER.REPAIR", text, "ERROR" if repair.error else "WARN")
    appliance.repairs_seen = max(appliance.repairs_seen, newest)


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


def take_health(session: Session, appliance: Appliance, health: Health) -> None:
    """Keep the newest probes of each service, and record an event when the appliance's health changes."""
    detail = {
        name: {"healthy": service.healthy, "detail": service.detail}
        for name, service in sorted(health.services.items())
    }
    if appliance.health != detail:
        appliance.health = detail
    failing = [f"{name}: {service.detail}" for name, service in sorted(health.services.items()) if not service.healthy]
    if health.healthy == appliance.healthy:
        return
    if not health.healthy:
        text = f"router {appliance.name} fails its health checks: {'; '.join(failing) or 'no service answers'}"
        _event(session, appliance, "ROUTER.HEALTH.CHECKS", text, "WARN")
    elif appliance.healthy is False:
        _event(session, appliance, "ROUTER.HEALTH.CHECKS", f"router {appliance.name} passes its health checks", "INFO")
    appliance.healthy = health.healthy


def _detail(health: Health) -> dict[str, Any]:
    return {
        name: {"healthy": service.healthy, "detail": service.detail}
        for name, service in sorted(health.services.items())
    }


def take_silence(session: Session, appliance: Appliance, reason: str) -> None:
    """The appliance has not answered for a while: it is unhealthy, and people are told once."""
    if appliance.healthy is not False or "agent" not in appliance.health:
        _event(session, appliance, "ROUTER.ALERT", f"router {appliance.name} cannot be reached: {reason}", "ERROR")
    appliance.healthy = False
    appliance.health = {"agent": {"healthy": False, "detail": reason}}
    appliance.last_error = reason


def tell_progress(session: Session, appliance: Appliance, reason: str) -> None:
    """Say in the jobs that wait for the appliance why they are not done yet."""
    appliance.last_error = reason
    session.execute(
        update(AsyncJob)
        .where(AsyncJob.appliance_id == appliance.id, AsyncJob.status == 0)
        .values(progress=reason)
        .execution_options(synchronize_session=False)
    )


def _event(session: Session, appliance: Appliance, type: str, text: str, level: Level) -> None:
    if appliance.account_id is not None:
        events.record(
            session,
            type,
            text,
            account_id=appliance.account_id,
            level=level,
            resource=("DomainRouter", appliance.id),
        )
