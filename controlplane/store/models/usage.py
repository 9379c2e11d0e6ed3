"""What is metered: how long resources were there, bytes of traffic, and the usage records made of both."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from controlplane.store.models.base import Base, Entity


class UsageSpan(Entity):
    """A resource was there, or ran, from ``begin`` to ``end`` in one shape; see controlplane/usage/spans.py."""

    __tablename__ = "usage_span"
    #: number of the usage type, see controlplane/usage/types.py
    usage_type: Mapped[int]
    #: the metered row; it may be gone
    subject_id: Mapped[str] = mapped_column(String(36))
    account_id: Mapped[str] = mapped_column(String(36))
    zone_id: Mapped[str] = mapped_column(String(36))
    begin: Mapped[datetime]
    #: None while it lasts
    end: Mapped[datetime | None]
    #: what a record tells besides: name, offering, template, ... Another value is another span
    details: Mapped[dict[str, Any]] = mapped_column(default=dict)
    __table_args__ = (Index("ix_usage_span_subject", "subject_id", "usage_type"), Index("ix_usage_span_end", "end"))


class TrafficCounter(Base):
    """What was taken in last of an appliance's counter: the next reading adds the difference."""

    __tablename__ = "traffic_counter"
    appliance_id: Mapped[str] = mapped_column(String(36), primary_key=True)
    subject_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    #: Traffic.epoch that the totals are of
    epoch: Mapped[str] = mapped_column(String(64))
    received: Mapped[int] = mapped_column(BigInteger)
    sent: Mapped[int] = mapped_column(BigInteger)
    taken: Mapped[datetime]


class TrafficSample(Base):
    """Bytes that a public address or a guest's NIC received and sent between two readings."""

    __tablename__ = "traffic_sample"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    appliance_id: Mapped[str] = mapped_column(String(36))
    #: "public", "guest", "vpn"
    kind: Mapped[str] = mapped_column(String(8))
    subject_id: Mapped[str] = mapped_column(String(36))
    account_id: Mapped[str] = mapped_column(String(36))
    zone_id: Mapped[str] = mapped_column(String(36))
    network_id: Mapped[str | None] = mapped_column(String(36))
    vm_id: Mapped[str | None] = mapped_column(String(36))
    start: Mapped[datetime]
    end: Mapped[datetime]
    received: Mapped[int] = mapped_column(BigInteger)
    sent: Mapped[int] = mapped_column(BigInteger)
    __table_args__ = (
        Index("ix_traffic_sample_end", "end"),
        Index("ix_traffic_sample_subject", "subject_id", "end"),
        Index("ix_traffic_sample_vm", "vm_id", "end"),
    )


class UsageJob(Entity):
    """A stretch of time whose usage records have been made; stretches follow each other without gap or overlap."""

    __tablename__ = "usage_job"
    #: "aggregation", or "sanity" for a check of the records up to ``end``
    kind: Mapped[str] = mapped_column(String(16), default="aggregation", index=True)
    start: Mapped[datetime]
    end: Mapped[datetime]
    records: Mapped[int] = mapped_column(default=0)


class UsageRecord(Entity):
    """One line of a bill (guide: chapter 14)."""

    __tablename__ = "usage_record"
    usage_type: Mapped[int]
    #: the resource as the API calls it
    usage_id: Mapped[str] = mapped_column(String(36))
    subject_id: Mapped[str] = mapped_column(String(36))
    account_id: Mapped[str] = mapped_column(String(36))
    domain_id: Mapped[str] = mapped_column(String(36))
    zone_id: Mapped[str] = mapped_column(String(36))
    start: Mapped[datetime]
    end: Mapped[datetime]
    description: Mapped[str] = mapped_column(Text)
    #: hours, or bytes
    raw_usage: Mapped[float]
    details: Mapped[dict[str, Any]] = mapped_column(default=dict)
    __table_args__ = (
        Index("ix_usage_record_start", "start", "end"),
        Index("ix_usage_record_account", "account_id", "start"),
    )
