"""What a router reports of its VPNs: states of site-to-site connections, who comes and goes by remote access."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from appliance.schema.status import Status
from controlplane import events
from controlplane.network.vpn import REMOVED
from controlplane.store.models import Appliance, PublicIp, RemoteAccessVpn, VpnConnection, VpnGateway

_STATES = frozenset({"Connecting", "Connected", "Disconnected", "Error"})
#: numbers of a log's entries are below, as the store's are
_NUMBERS = 2**63
#: of a log's entry -> type of the event, and what the user did
_VISITS = {"connect": ("VPN.USER.CONNECT", "connected"), "disconnect": ("VPN.USER.DISCONNECT", "disconnected")}


def reported(status: Status) -> dict[str, dict[str, Any]]:
    """Connection id -> ``state`` and ``detail``; address of remote access -> ``detail`` and ``sessions``."""
    found: dict[str, dict[str, Any]] = {
        id: {"state": str(one["state"]), "detail": _detail(one)}
        for id, one in _part(status, "connections").items()
        if one.get("state") in _STATES
    }
    return found | {
        address: {"detail": _detail(one), "sessions": list(_sessions(one))}
        for address, one in _part(status, "remote").items()
    }


def _sessions(one: dict[str, Any]) -> Iterator[dict[str, str]]:
    """Those that are as a router says them."""
    told = one.get("sessions")
    for session in told if isinstance(told, list) else []:
        with contextlib.suppress(TypeError, KeyError, ValueError):
            if datetime.fromisoformat(session["since"]).tzinfo is None:
                raise ValueError("a moment without its zone is before or after no other")
            yield {name: str(session[name])[:64] for name in ("user", "protocol", "client", "peer", "since")}


def _part(status: Status, name: str) -> dict[str, dict[str, Any]]:
    report = status.reports.get("vpn")
    part = report.get(name) if isinstance(report, dict) else None
    return {key: one for key, one in part.items() if isinstance(one, dict)} if isinstance(part, dict) else {}


def _detail(one: dict[str, Any]) -> str:
    return str(one.get("detail") or "")[:1024]


def _visits(status: Status, seen: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Address and entry of what is in the logs after number ``seen``."""
    for address, one in _part(status, "remote").items():
        log = one.get("log")
        for entry in log if isinstance(log, list) else []:
            number = entry.get("number") if isinstance(entry, dict) else None
            if isinstance(number, int) and seen < number < _NUMBERS:
                yield address, entry


def has_news(appliance: Appliance, status: Status) -> bool:
    """Whether ``take`` would change anything."""
    return (appliance.tunnels or {}) != reported(status) or any(_visits(status, appliance.visits_seen))


def take(session: Session, appliance: Appliance, status: Status) -> None:
    """Bring the rows of connections and remote access VPNs up to date, and record events."""
    now = reported(status)
    if (appliance.tunnels or {}) != now:
        appliance.tunnels = now
    own = (
        select(VpnConnection)
        .join(VpnGateway, VpnGateway.id == VpnConnection.gateway_id)
        .where(VpnGateway.network_id == appliance.network_id, VpnConnection.id.in_(now))
    )
    for connection in session.scalars(own):
        one, before = now[connection.id], connection.state
        if before == REMOVED or "state" not in one:
            continue
        connection.state, connection.detail = one["state"], one["detail"]
        if (before == "Connected") != (one["state"] == "Connected"):
            _record(session, connection, before)
    doors = _doors(session, appliance)
    for address, door in doors.items():
        if address in now:
            door.detail = now[address]["detail"]
    fresh = sorted(_visits(status, appliance.visits_seen), key=lambda visit: int(visit[1]["number"]))
    for address, entry in fresh:
        if address in doors and entry.get("event") in _VISITS:
            _record_visit(session, doors[address], address, entry)
        appliance.visits_seen = entry["number"]


def _doors(session: Session, appliance: Appliance) -> dict[str, RemoteAccessVpn]:
    """The router's remote access VPNs by address."""
    statement = select(PublicIp.address, RemoteAccessVpn).join(PublicIp, PublicIp.id == RemoteAccessVpn.public_ip_id)
    rows = session.execute(statement.where(RemoteAccessVpn.network_id == appliance.network_id))
    return {row.address: row.RemoteAccessVpn for row in rows}


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


def _record_visit(session: Session, door: RemoteAccessVpn, address: str, entry: dict[str, Any]) -> None:
    type, verb = _VISITS[entry["event"]]
    told = {name: str(entry.get(name, "?"))[:64] for name in ("user", "peer", "protocol", "client", "at")}
    events.record(
        session,
        type,
        f"VPN user {told['user']} {verb}: remote access VPN on {address}, from {told['peer']} by {told['protocol']}, "
        f"address {told['client']}, at {told['at']}",
        account_id=door.account_id,
        resource=("RemoteAccessVpn", door.id),
    )
