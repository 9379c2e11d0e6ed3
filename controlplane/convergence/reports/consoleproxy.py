"""Reports of a console proxy: who came to see a screen, from where, for how long."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy.orm import Session

from appliance.schema.status import Status
from controlplane import events
from controlplane.console import sessions
from controlplane.convergence.desired import desire
from controlplane.store.models import Appliance, ConsoleSession, User, Vm, now


def has_news(proxy: Appliance, status: Status) -> bool:
    """Whether ``take`` would change anything."""
    return any(record["number"] > proxy.reports_seen for record in _records(status))


def take(session: Session, proxy: Appliance, status: Status) -> None:
    """Bring the sessions up to date and record an event for each that began or ended."""
    records = _records(status)
    fresh = [record for record in records if record["number"] > proxy.reports_seen]
    for record in fresh:
        row = session.get(ConsoleSession, record.get("session", ""))
        if row is None or row.appliance_id != proxy.id:
            continue
        handle = _HANDLERS.get(record.get("what", ""))
        if handle is not None:
            handle(session, row, record)
    if fresh:
        proxy.reports_seen = max(record["number"] for record in fresh)
        session.flush()
        # the next document lets the proxy forget them
        desire(session, proxy.id)


def _records(status: Status) -> list[dict[str, Any]]:
    report = status.reports.get("console")
    records = report.get("records") if isinstance(report, dict) else None
    found = [record for record in records if isinstance(record, dict)] if isinstance(records, list) else []
    return [record for record in found if isinstance(record.get("number"), int)]


def _connected(session: Session, row: ConsoleSession, record: dict[str, Any]) -> None:
    row.client_address = str(record.get("client", ""))[:45]
    row.acquired = row.acquired or _time(record.get("time"))
    if row.state == "Pending":
        row.state = "Open"
    _event(session, row, "VNC.CONNECT", f"connected from {row.client_address}")


def _disconnected(session: Session, row: ConsoleSession, record: dict[str, Any]) -> None:
    sent, received = _count(record.get("sent")), _count(record.get("received"))
    row.bytes_sent += sent
    row.bytes_received += received
    text = f"disconnected: {record.get('reason', '')}"
    if record.get("began") is not None:
        lasted = (_time(record.get("time")) - _time(record["began"])).total_seconds()
        text += f"; {max(0.0, lasted):.0f} s, {sent} bytes sent, {received} bytes received"
    _event(session, row, "VNC.DISCONNECT", text)


def _ended(session: Session, row: ConsoleSession, record: dict[str, Any]) -> None:
    if row.state != "Ended":
        sessions.end(row, str(record.get("reason", ""))[:255], _time(record.get("time")))


_HANDLERS = {"connected": _connected, "disconnected": _disconnected, "ended": _ended}


def _time(value: object) -> datetime:
    return datetime.fromtimestamp(value, UTC) if isinstance(value, int | float) else now()


def _count(value: object) -> int:
    return max(0, value) if isinstance(value, int) else 0


def _event(session: Session, row: ConsoleSession, type: str, text: str) -> None:
    # an event of the guest's owner, who wants to know when somebody else watched
    vm, user = session.get_one(Vm, row.vm_id), session.get_one(User, row.user_id)
    events.record(
        session,
        type,
        f"console of {vm.display_name or vm.name}: user {user.username} of account {user.account.name} {text}",
        account_id=vm.account_id,
        user_id=user.id,
        resource=("UserVm", vm.id),
    )
