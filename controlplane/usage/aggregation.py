"""Usage records: of each stretch of time in turn, in one transaction with the note that it is done.

A stretch begins where the one before ended, so no time is told twice or left out, however often and whenever records
are asked for, and a crash leaves a stretch with all of its records or none.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import func, insert, or_, select
from sqlalchemy.orm import Session

from controlplane.configuration import Configuration
from controlplane.store.models import (
    Account,
    Appliance,
    NetworkOffering,
    ServiceOffering,
    Template,
    TrafficSample,
    UsageJob,
    UsageRecord,
    UsageSpan,
    Vm,
    new_id,
    now,
)
from controlplane.timezones import zone
from controlplane.usage.schedule import Schedule
from controlplane.usage.traffic import aggregated_until
from controlplane.usage.types import UsageType

ENABLED = "enable.usage.server"
RANGE, AT = "usage.stats.job.aggregation.range", "usage.stats.job.exec.time"
EXECUTION_ZONE, AGGREGATION_ZONE = "usage.execution.timezone", "usage.aggregation.timezone"


def schedule_of(session: Session, configuration: Configuration) -> Schedule:
    """The schedule that the settings make.

    Days are those of ``usage.aggregation.timezone``. Where that was never set and ``usage.execution.timezone`` was,
    they are that one's, as in the guide's example.
    """
    execution = configuration.get(session, EXECUTION_ZONE)
    alone = configuration.is_set(session, EXECUTION_ZONE) and not configuration.is_set(session, AGGREGATION_ZONE)
    days = execution if alone else configuration.get(session, AGGREGATION_ZONE)
    at = datetime.strptime(configuration.get(session, AT), "%H:%M").time()
    return Schedule(configuration.get_int(session, RANGE), at, zone(execution), zone(days))


def make_due(session: Session, schedule: Schedule, moment: datetime) -> UsageJob | None:
    """Make the records of the next stretch that is due at ``moment``; None when there is none. Call it until then."""
    start = _next_start(session, schedule)
    if start is None:
        return None
    end = schedule.end_after(start)
    return make(session, start, end) if schedule.due(end) <= moment else None


def make_until(session: Session, schedule: Schedule, moment: datetime) -> UsageJob | None:
    """The same for stretches that have ended by ``moment``, due or not, and for the part of the last one until then."""
    start = _next_start(session, schedule)
    if start is None or start >= moment:
        return None
    return make(session, start, min(schedule.end_after(start), moment))


def _next_start(session: Session, schedule: Schedule) -> datetime | None:
    """Where the last stretch ended, or the beginning of the one with the first thing that was ever metered."""
    if (closed := aggregated_until(session)) is not None:
        return closed
    firsts = [session.scalar(select(func.min(UsageSpan.begin))), session.scalar(select(func.min(TrafficSample.start)))]
    begun = [first for first in firsts if first is not None]
    return schedule.start_of(min(begun)) if begun else None


def make(session: Session, start: datetime, end: datetime) -> UsageJob:
    """Make the records of everything from ``start`` to ``end``."""
    domains = {row.id: row.domain_id for row in session.execute(select(Account.id, Account.domain_id))}
    names = _Names(session)
    created = now()
    records: list[dict[str, Any]] = [
        {
            "id": new_id(),
            "created": created,
            "usage_type": int(line.usage_type),
            "usage_id": line.usage_id,
            "subject_id": line.subject_id,
            "account_id": line.account_id,
            "domain_id": domains.get(line.account_id, ""),
            "zone_id": line.zone_id,
            "start": start,
            "end": end,
            "description": line.describe(names),
            "raw_usage": line.raw,
            "details": line.details,
        }
        for line in (*_times(session, start, end), *_bytes(session, start, end))
    ]
    if records:
        session.execute(insert(UsageRecord), records)
    job = UsageJob(start=start, end=end, records=len(records))
    session.add(job)
    session.flush()
    return job


@dataclass
class _Names:
    """Names of what records tell of, looked up once."""

    session: Session

    def __post_init__(self) -> None:
        self._known: dict[tuple[type[Any], str], str] = {}

    def of(self, model: type[Any], id: str | None) -> str:
        if id is None:
            return ""
        if (model, id) not in self._known:
            row = self.session.get(model, id)
            self._known[model, id] = row.name if row is not None else id
        return self._known[model, id]


@dataclass
class _Line:
    """One record in the making."""

    usage_type: UsageType
    subject_id: str
    account_id: str
    zone_id: str
    details: dict[str, Any]
    raw: float = 0.0

    @property
    def usage_id(self) -> str:
        return str(self.details.get("usage_id") or self.subject_id)

    def describe(self, names: _Names) -> str:
        details, subject = self.details, self.subject_id
        text = _DESCRIPTIONS.get(self.usage_type, f"{self.usage_type.description}: {{name}}")
        offering = NetworkOffering if self.usage_type == UsageType.NETWORK_OFFERING else ServiceOffering
        return text.format(
            name=details.get("name") or subject,
            subject=subject,
            size=details.get("size"),
            offering=names.of(offering, details.get("offering_id")),
            template=names.of(Template, details.get("template_id")),
            vm=names.of(Vm, details.get("vm_id")),
            router=names.of(Appliance, details.get("usage_id")) if self.usage_type.in_bytes else "",
        )


_DESCRIPTIONS = {
    UsageType.RUNNING_VM: "{name} running time (ServiceOffering: {offering}) (Template: {template})",
    UsageType.ALLOCATED_VM: "{name} allocated (ServiceOffering: {offering}) (Template: {template})",
    UsageType.IP_ADDRESS: "IPAddress: {name}",
    UsageType.NETWORK_BYTES_SENT: "network bytes sent for IPAddress: {name} of router {router}",
    UsageType.NETWORK_BYTES_RECEIVED: "network bytes received for IPAddress: {name} of router {router}",
    UsageType.VOLUME: "Volume: {name} (size: {size})",
    UsageType.SNAPSHOT: "Snapshot: {name} (size: {size})",
    UsageType.TEMPLATE: "Template: {name} (size: {size})",
    UsageType.ISO: "ISO: {name} (size: {size})",
    UsageType.LOAD_BALANCER_POLICY: "Load Balancing Policy: {subject} usage time",
    UsageType.PORT_FORWARDING_RULE: "Port Forwarding Rule: {subject} usage time",
    UsageType.VPN_USERS: "VPN User: {name} usage time",
    UsageType.SECURITY_GROUP: "Security Group: {name} for Vm: {vm} usage time",
    UsageType.NETWORK_OFFERING: "Network offering: {offering} for Vm: {name} usage time",
}


def _times(session: Session, start: datetime, end: datetime) -> Iterator[_Line]:
    """Hours: the spans of one resource in one shape are one record."""
    lines: dict[tuple[int, str, str, str], _Line] = {}
    statement = (
        select(UsageSpan)
        .where(UsageSpan.begin < end, or_(UsageSpan.end.is_(None), UsageSpan.end > start))
        .order_by(UsageSpan.begin, UsageSpan.id)
    )
    for span in session.scalars(statement):
        key = (span.usage_type, span.subject_id, span.account_id, json.dumps(span.details, sort_keys=True))
        line = lines.get(key)
        if line is None:
            kind = UsageType(span.usage_type)
            line = lines[key] = _Line(kind, span.subject_id, span.account_id, span.zone_id, dict(span.details))
        lasted = min(span.end or end, end) - max(span.begin, start)
        line.raw += lasted / timedelta(hours=1)
    yield from (line for line in lines.values() if line.raw > 0)


def _bytes(session: Session, start: datetime, end: datetime) -> Iterator[_Line]:
    """Bytes of public addresses, by address and router. What a sample has before and after a boundary adds up to it."""
    found: dict[tuple[str, str, str], tuple[TrafficSample, int, int]] = {}
    statement = select(TrafficSample).where(
        TrafficSample.kind == "public", TrafficSample.start < end, TrafficSample.end > start
    )
    for sample in session.scalars(statement):
        key = (sample.appliance_id, sample.subject_id, sample.account_id)
        _, received, sent = found.get(key, (sample, 0, 0))
        received += _part(sample.received, sample, start, end)
        sent += _part(sample.sent, sample, start, end)
        found[key] = (sample, received, sent)
    addresses = _addresses(session, [subject for _, subject, _ in found])
    for sample, received, sent in found.values():
        details = {
            "name": addresses.get(sample.subject_id, sample.subject_id),
            "usage_id": sample.appliance_id,
            "network_id": sample.network_id,
            "public_ip_id": sample.subject_id,
            "type": "DomainRouter",
        }
        for kind, count in ((UsageType.NETWORK_BYTES_SENT, sent), (UsageType.NETWORK_BYTES_RECEIVED, received)):
            if count:
                yield _Line(kind, sample.subject_id, sample.account_id, sample.zone_id, details, float(count))


def _part(count: int, sample: TrafficSample, start: datetime, end: datetime) -> int:
    """Of ``count`` bytes, evenly over the sample's time, those from ``start`` to ``end``; parts add up exactly."""
    whole = sample.end - sample.start

    def until(moment: datetime) -> int:
        passed = min(max(moment - sample.start, timedelta()), whole)
        return count * (passed // timedelta(microseconds=1)) // (whole // timedelta(microseconds=1))

    return until(end) - until(start)


def _addresses(session: Session, ids: list[str]) -> dict[str, str]:
    statement = select(UsageSpan.subject_id, UsageSpan.details).where(
        UsageSpan.usage_type == UsageType.IP_ADDRESS, UsageSpan.subject_id.in_(ids)
    )
    return {row.subject_id: row.details.get("name", "") for row in session.execute(statement)}
