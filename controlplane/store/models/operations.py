"""Appliances, jobs and events."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, ForeignKey, Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from controlplane.store.models.base import Entity


class Appliance(Entity):
    """A system VM. Work is left to do while ``observed_generation < desired_generation``."""

    __tablename__ = "appliance"
    #: "router", "ssvm", "consoleproxy"
    role: Mapped[str] = mapped_column(String(16))
    name: Mapped[str] = mapped_column(String(63), unique=True)
    zone_id: Mapped[str] = mapped_column(ForeignKey("zone.id"))
    account_id: Mapped[str | None] = mapped_column(ForeignKey("account.id"))
    host_id: Mapped[str | None] = mapped_column(ForeignKey("host.id"))
    #: the network a router serves, None for a system VM; tiers of a VPC will point to their router through the VPC
    network_id: Mapped[str | None] = mapped_column(ForeignKey("network.id"), index=True)
    service_offering_id: Mapped[str | None] = mapped_column(ForeignKey("service_offering.id"))
    #: "Starting", "Running", "Stopping", "Stopped", "Destroyed", "Error"
    state: Mapped[str] = mapped_column(String(16), default="Starting")
    #: what an operator or a network wants: "Running" or "Stopped"
    desired_state: Mapped[str] = mapped_column(String(16), default="Running")
    control_address: Mapped[str] = mapped_column(String(15), unique=True)
    #: [{"name", "mac", "role", "segment", "network"}], in the order the appliance sees them
    nics: Mapped[list[dict[str, Any]]] = mapped_column(JSON, default=list)
    desired_generation: Mapped[int] = mapped_column(default=0)
    observed_generation: Mapped[int] = mapped_column(default=0)
    #: newest error of a push, for the job and for listRouters
    last_error: Mapped[str | None] = mapped_column(Text)
    healthy: Mapped[bool | None]
    health: Mapped[dict[str, Any]] = mapped_column(default=dict)
    #: number of the newest repair that was made an event
    repairs_seen: Mapped[int] = mapped_column(default=0)
    #: number of the newest report of its role that was taken in
    reports_seen: Mapped[int] = mapped_column(default=0, server_default="0")
    version: Mapped[str | None]
    redundant_state: Mapped[str] = mapped_column(String(16), default="UNKNOWN")
    #: what the load balancer reported last: rule id -> "address:port" -> "Up" or "Down"
    balanced: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    #: what the VPN reported last: connection id -> "state" and "detail", address of remote access -> "detail" and
    #: "sessions", each with "user", "protocol", "client", "peer", "since"
    tunnels: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    #: number of the newest entry of remote access VPNs' logs that was made an event
    visits_seen: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
    #: of an SSVM: names of the directories that its machine was started with (``imagestores.shares``)
    shares: Mapped[list[str]] = mapped_column(JSON, default=list, server_default="[]")
    #: SHA-256 of what an SSVM reported last
    report_digest: Mapped[str | None] = mapped_column(String(64))
    removed: Mapped[datetime | None]


class AsyncJob(Entity):
    """An API job. It ends when its workflow ends it, or when its appliance has reached its generation."""

    __tablename__ = "async_job"
    command: Mapped[str] = mapped_column(String(64))
    user_id: Mapped[str] = mapped_column(ForeignKey("user.id"))
    account_id: Mapped[str] = mapped_column(ForeignKey("account.id"))
    instance_type: Mapped[str | None] = mapped_column(String(32))
    instance_id: Mapped[str | None] = mapped_column(String(36))
    #: 0 pending, 1 succeeded, 2 failed
    status: Mapped[int] = mapped_column(default=0, index=True)
    process_status: Mapped[int] = mapped_column(default=0)
    result_code: Mapped[int] = mapped_column(default=0)
    result: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    #: why it is not done yet, for people (e.g. "router r-5 does not answer, next try in 4 s")
    progress: Mapped[str | None] = mapped_column(Text)
    appliance_id: Mapped[str | None] = mapped_column(ForeignKey("appliance.id"), index=True)
    generation: Mapped[int | None]
    #: the workflow that ends the job: {"name", "arguments"}
    workflow: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    #: what to do in the transaction that ends the job well: {"name", "arguments"}, see controlplane/jobs
    completion: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    #: what is being done, for its events, e.g. "opening port 80 of 203.0.113.5"
    description: Mapped[str] = mapped_column(Text, default="")
    #: the event that was recorded when the job was made
    event_id: Mapped[str | None] = mapped_column(String(36))
    completed: Mapped[datetime | None]


class Event(Entity):
    __tablename__ = "event"
    type: Mapped[str] = mapped_column(String(64), index=True)
    #: "INFO", "WARN", "ERROR"
    level: Mapped[str] = mapped_column(String(8), default="INFO")
    #: "Created", "Scheduled", "Started", "Completed"
    state: Mapped[str] = mapped_column(String(16), default="Completed")
    description: Mapped[str] = mapped_column(String(1024))
    account_id: Mapped[str] = mapped_column(ForeignKey("account.id"))
    user_id: Mapped[str | None] = mapped_column(ForeignKey("user.id"))
    resource_type: Mapped[str | None] = mapped_column(String(32))
    resource_id: Mapped[str | None] = mapped_column(String(36))
    #: the event that began what this one continues
    start_event_id: Mapped[str | None] = mapped_column(String(36))
    archived: Mapped[bool] = mapped_column(default=False)
    __table_args__ = (Index("ix_event_created", "created"),)
