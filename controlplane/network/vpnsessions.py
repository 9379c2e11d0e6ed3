"""Who is connected by remote access now, as the routers reported it last."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from controlplane.store.models import Appliance, RemoteAccessVpn


@dataclass(frozen=True)
class Visit:
    """A client that is connected."""

    user: str
    #: "ikev2" or "l2tp"
    protocol: str
    #: public address of the VPN, the client's address inside, and where it is
    address: str
    client: str
    peer: str
    since: datetime


def of(session: Session, rows: Iterable[RemoteAccessVpn]) -> dict[str, list[Visit]]:
    """Id of each VPN -> its visits, the longest first; of a router that does not run there are none."""
    doors = {row.network_id: row for row in rows}
    found: dict[str, list[Visit]] = {row.id: [] for row in doors.values()}
    routers = select(Appliance.network_id, Appliance.tunnels).where(
        Appliance.network_id.in_(doors), Appliance.state == "Running", Appliance.removed.is_(None)
    )
    for network_id, tunnels in session.execute(routers):
        row = doors[network_id]
        told = (tunnels or {}).get(row.public_ip.address, {}).get("sessions", [])
        found[row.id] += [
            Visit(
                one["user"],
                one["protocol"],
                row.public_ip.address,
                one["client"],
                one["peer"],
                datetime.fromisoformat(one["since"]),
            )
            for one in told
        ]
    return {id: sorted(visits, key=lambda visit: visit.since) for id, visits in found.items()}
