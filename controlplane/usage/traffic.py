"""Takes in what routers have counted: cumulative totals become samples, each byte in exactly one.

The totals that were taken in last are in the same transaction as the samples made of them, so that a crash at any
moment leaves both or neither; the next reading has the difference.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import delete, func, insert, select
from sqlalchemy.orm import Session

from appliance.schema.traffic import Counter, Traffic
from controlplane.store.models import (
    Network,
    RemoteAccessVpn,
    TrafficCounter,
    TrafficSample,
    UsageJob,
    UsageSpan,
    VpnConnection,
    VpnGateway,
)
from controlplane.usage.types import UsageType

log = logging.getLogger(__name__)

#: the settings: seconds between two readings of a router (0: none), hours that samples are kept for charts
INTERVAL, RETENTION = "router.stats.interval", "router.stats.retention"
#: spans that tell whose a public address's or a guest's counter is
_OWNING = (UsageType.IP_ADDRESS, UsageType.NETWORK_OFFERING)
_MANY = 5_000


@dataclass(frozen=True)
class _Owner:
    account_id: str
    zone_id: str
    network_id: str | None
    vm_id: str | None
    since: datetime


def take(session: Session, appliance_id: str, traffic: Traffic) -> int:
    """Add what an appliance's totals grew since they were taken in last; how many samples that made.

    Totals that are older than those (two readers at once) add nothing.
    """
    known = {
        row.subject_id: row
        for row in session.scalars(select(TrafficCounter).where(TrafficCounter.appliance_id == appliance_id))
    }
    grown: list[tuple[Counter, TrafficCounter | None, int, int]] = []
    for counter in traffic.counters:
        last = known.get(counter.id)
        if last is not None and last.epoch == traffic.epoch:
            received, sent = counter.received - last.received, counter.sent - last.sent
        else:
            received, sent = counter.received, counter.sent
        if received >= 0 and sent >= 0 and (received or sent):
            grown.append((counter, last, received, sent))
    taken, closed = datetime.fromtimestamp(traffic.taken, UTC), aggregated_until(session)
    owners = _owners(session, [counter.id for counter, _, _, _ in grown])
    samples: list[dict[str, Any]] = []
    for counter, last, received, sent in grown:
        owner = owners.get(counter.id)
        if owner is None:
            # only what we gave an id to can be asked for
            log.warning("traffic of %s (%s) at %s belongs to nobody known", counter.id, counter.address, appliance_id)
            continue
        start = last.taken if last is not None else owner.since
        if closed is not None:
            # records of that time have been made: what comes late is told in the next ones
            start = max(start, closed)
        samples.append(
            {
                "appliance_id": appliance_id,
                "kind": counter.kind,
                "subject_id": counter.id,
                "account_id": owner.account_id,
                "zone_id": owner.zone_id,
                "network_id": owner.network_id,
                "vm_id": owner.vm_id,
                "start": start,
                # a router's clock may be behind ours
                "end": max(taken, start + timedelta(milliseconds=1)),
                "received": received,
                "sent": sent,
            }
        )
    if samples:
        session.execute(insert(TrafficSample), samples)
    _remember(session, appliance_id, traffic, taken, known)
    return len(samples)


def _remember(
    session: Session, appliance_id: str, traffic: Traffic, taken: datetime, known: Mapping[str, TrafficCounter]
) -> None:
    fresh = []
    for counter in traffic.counters:
        last = known.get(counter.id)
        if last is None:
            fresh.append(
                {
                    "appliance_id": appliance_id,
                    "subject_id": counter.id,
                    "epoch": traffic.epoch,
                    "received": counter.received,
                    "sent": counter.sent,
                    "taken": taken,
                }
            )
        elif last.epoch != traffic.epoch or (counter.received >= last.received and counter.sent >= last.sent):
            last.epoch, last.received, last.sent, last.taken = traffic.epoch, counter.received, counter.sent, taken
    if fresh:
        session.execute(insert(TrafficCounter), fresh)
    session.flush()


def aggregated_until(session: Session) -> datetime | None:
    """The end of the time that usage records have been made for."""
    end: datetime | None = session.scalar(select(func.max(UsageJob.end)).where(UsageJob.kind == "aggregation"))
    return end


def _owners(session: Session, ids: list[str]) -> dict[str, _Owner]:
    """Whose the counters are, or were last."""
    found = _vpns(session)
    for start in range(0, len(ids), _MANY):
        statement = (
            select(UsageSpan)
            .where(UsageSpan.subject_id.in_(ids[start : start + _MANY]), UsageSpan.usage_type.in_(_OWNING))
            .order_by(UsageSpan.begin)
        )
        for span in session.scalars(statement):
            details = span.details
            since = found[span.subject_id].since if span.subject_id in found else span.begin
            found[span.subject_id] = _Owner(
                span.account_id, span.zone_id, details.get("network_id"), details.get("vm_id"), since
            )
    return found


def _vpns(session: Session) -> dict[str, _Owner]:
    """Owners of VPNs, which no span is of."""
    connections = (
        select(VpnConnection, VpnGateway.network_id, Network.zone_id)
        .join(VpnGateway, VpnGateway.id == VpnConnection.gateway_id)
        .join(Network, Network.id == VpnGateway.network_id)
    )
    doors = select(RemoteAccessVpn, RemoteAccessVpn.network_id, Network.zone_id).join(RemoteAccessVpn.network)
    return {
        vpn.id: _Owner(vpn.account_id, zone_id, network_id, None, vpn.created)
        for rows in (session.execute(connections), session.execute(doors))
        for vpn, network_id, zone_id in rows
    }


def prune(session: Session, before: datetime) -> int:
    """Delete samples that ended before then and that records were made of; how many those were."""
    closed = aggregated_until(session)
    if closed is None:
        return 0
    gone = session.execute(delete(TrafficSample).where(TrafficSample.end < min(before, closed)))
    return int(gone.rowcount)  # type: ignore[attr-defined]


def history(session: Session, where: Iterable[Any], start: datetime, end: datetime) -> list[TrafficSample]:
    """Samples that overlap a stretch of time, oldest first; ``where`` are further conditions."""
    statement = (
        select(TrafficSample)
        .where(TrafficSample.end > start, TrafficSample.start < end, *where)
        .order_by(TrafficSample.end, TrafficSample.id)
    )
    return list(session.scalars(statement))
