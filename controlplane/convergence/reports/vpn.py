"""What a router reports of its site-to-site VPN connections: states, and events when one goes up or down."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from appliance.schema.status import Status
from controlplane import events
from controlplane.network.vpn import REMOVED
from controlplane.store.models import Appliance, VpnConnection

_STATES = frozenset({"Connecting", "Connected", "Disconnected", "Error"})


def reported(status: Status) -> dict[str, dict[str, str]]:
    """Connection id -> ``state`` and ``detail``."""
    report = status.reports.get("vpn")
    found = report.get("connections") if isinstance(report, dict) else None
    if not isinstance(found, dict):
        return {}
    return {id: _texts(one) for id, one in found.items() if isinstance(one, dict) and one.get("state") in _STATES}


def _texts(one: dict[str, Any]) -> dict[str, str]:
    return {"state": str(one["state"]), "detail": str(one.get("detail", ""))[:1024]}


def has_news(appliance: Appliance, status: Status) -> bool:
    """Whether ``take`` would change anything."""
    return (appliance.tunnels or {}) != reported(status)


def take(session: Session, appliance: Appliance, status: Status) -> None:
    """Bring the connections' rows up to date."""
    now = reported(status)
    if (appliance.tunnels or {}) != now:
        appliance.tunnels = now
    for connection in session.scalars(select(VpnConnection).where(VpnConnection.id.in_(now))):
        one, before = now[connection.id], connection.state
        if before == REMOVED:
            continue
        connection.state, connection.detail = one["state"], one["detail"]
        if (before == "Connected") != (one["state"] == "Connected"):
            _record(session, connection, before)


def _record(session: Session, connection: VpnConnection, before: str) -> None:
    up = connection.state == "Connected"
    far = connection.customer_gateway
    why = f": {connection.detail}" if connection.detail else ""
    events.record(
        session,
        "VPN.S2S.CONNECTED" if up else "VPN.S2S.DISCONNECTED",
        f"VPN connection to {far.name} ({far.gateway}) went from {before} to {connection.state}{why}",
        account_id=connection.account_id,
        level="INFO" if up else "WARN",
        resource=("Site2SiteVpnConnection", connection.id),
    )
