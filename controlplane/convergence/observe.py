"""Taking in what an appliance reports: generation, health, repairs, and what is special to its role.

Each function writes only what changed, for appliances are looked at every few seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import update
from sqlalchemy.orm import Session

from appliance.schema.status import Health, Repair, Status
from controlplane import events
from controlplane.convergence.roles import role_of
from controlplane.events import Level
from controlplane.store.models import Appliance, AsyncJob


def has_news(appliance: Appliance, status: Status, health: Health) -> bool:
    """Whether taking these in would change anything; if not, no write transaction is needed."""
    return (
        status.generation != appliance.observed_generation
        or status.version != appliance.version
        or any(repair.number > appliance.repairs_seen for repair in status.repairs)
        or role_of(appliance).has_reports(appliance, status)
        or health.healthy != appliance.healthy
        or _detail(health) != appliance.health
    )


def take_status(session: Session, appliance: Appliance, status: Status) -> None:
    """Bring the appliance's row, its events and what its role reports up to date with ``status``."""
    if status.generation > appliance.desired_generation:
        # our tables are older than the appliance (restored from a backup): it accepts only a newer generation, and
        # what it has is not what the tables say
        appliance.desired_generation, appliance.observed_generation = status.generation + 1, 0
    elif status.generation != appliance.observed_generation:
        # lower: it was rebuilt or lost its state, so it is behind and will be given everything again
        appliance.observed_generation = status.generation
    if status.version != appliance.version:
        appliance.version = status.version
    _record_repairs(session, appliance, status.repairs)
    role_of(appliance).take_reports(session, appliance, status)


def _record_repairs(session: Session, appliance: Appliance, repairs: Sequence[Repair]) -> None:
    newest = max((repair.number for repair in repairs), default=0)
    if newest < appliance.repairs_seen and (repairs or appliance.observed_generation == 0):
        appliance.repairs_seen = 0  # the appliance lost its state and counts from 1 again
    for repair in repairs:
        if repair.number > appliance.repairs_seen:
            outcome = f"could not be repaired: {repair.error}" if repair.error else "repaired"
            text = f"{_name(appliance)}: {repair.service}: {repair.reason}: {outcome}"
            _event(session, appliance, "REPAIR", text, "ERROR" if repair.error else "WARN")
    appliance.repairs_seen = max(appliance.repairs_seen, newest)


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
        text = f"{_name(appliance)} fails its health checks: {'; '.join(failing) or 'no service answers'}"
        _event(session, appliance, "HEALTH.CHECKS", text, "WARN")
    elif appliance.healthy is False:
        _event(session, appliance, "HEALTH.CHECKS", f"{_name(appliance)} passes its health checks", "INFO")
    appliance.healthy = health.healthy


def _detail(health: Health) -> dict[str, Any]:
    return {
        name: {"healthy": service.healthy, "detail": service.detail}
        for name, service in sorted(health.services.items())
    }


def take_silence(session: Session, appliance: Appliance, reason: str) -> None:
    """The appliance has not answered for a while: it is unhealthy, and people are told once."""
    if appliance.healthy is not False or "agent" not in appliance.health:
        _event(session, appliance, "ALERT", f"{_name(appliance)} cannot be reached: {reason}", "ERROR")
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


def _name(appliance: Appliance) -> str:
    return f"{role_of(appliance).label} {appliance.name}"


def _event(session: Session, appliance: Appliance, type: str, text: str, level: Level) -> None:
    role = role_of(appliance)
    if appliance.account_id is not None:
        events.record(
            session,
            f"{role.events}.{type}",
            text,
            account_id=appliance.account_id,
            level=level,
            resource=(role.resource, appliance.id),
        )
