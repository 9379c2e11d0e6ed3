"""What an appliance reports: the outcome of each generation, health, repairs."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from appliance.schema.envelope import ApplianceId, Role
from appliance.schema.types import Frozen

#: the steps of a transaction, in order; a failure names the one it happened in
Stage = Literal["parse", "render", "check", "files", "netfilter", "units", "reload", "probe", "commit"]


class Problem(Frozen):
    """One thing that is wrong. ``field`` is a dotted path into the document, empty where it does not apply."""

    stage: Stage
    service: str = ""
    field: str = ""
    message: str


class Attempt(Frozen):
    """The outcome of the newest generation that was tried."""

    generation: int
    digest: str
    outcome: Literal["applied", "refused", "rolled-back"]
    problems: tuple[Problem, ...] = ()
    #: UNIX time in seconds and how long it took
    finished: float
    seconds: float


class Repair(Frozen):
    """Something drifted from the document and was put right (or could not be: ``error``)."""

    #: counts up from 1 over the life of the appliance, so that a reader sees each repair once
    number: Annotated[int, Field(ge=1)]
    time: float
    service: str
    reason: str
    error: str = ""


class Status(Frozen):
    """GET /v1/status."""

    id: ApplianceId
    role: Role
    version: str
    #: UNIX time the agent started
    started: float
    #: last-good generation and digest that the machine matches; 0 and "" before the first
    generation: int
    digest: str
    #: generation being applied now, if any
    applying: int | None = None
    attempt: Attempt | None = None
    #: the newest 100
    repairs: tuple[Repair, ...] = ()
    #: what a service has to tell the control plane, by service name (e.g. passwords that were fetched)
    reports: dict[str, Any] = {}


class ServiceHealth(Frozen):
    """The newest probe of one service."""

    healthy: bool
    detail: str = ""
    checked: float


class Health(Frozen):
    """GET /v1/health: 200 when healthy, 503 otherwise, the same body."""

    healthy: bool
    generation: int
    services: dict[str, ServiceHealth]
