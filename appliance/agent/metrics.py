"""GET /v1/metrics: Prometheus text, exposition format 0.0.4."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path

from appliance.engine.engine import Engine
from appliance.schema.status import ServiceHealth

log = logging.getLogger(__name__)


def render(engine: Engine, health: Mapping[str, ServiceHealth], started: float) -> str:
    """Every metric of the appliance. ``started`` is when the agent did, in UNIX seconds."""
    attempt = engine.attempt
    lines = [
        *_metric("gatehouse_agent_start_time_seconds", "gauge", "When the agent started.", {"": started}),
        *_metric("gatehouse_generation", "gauge", "Last-good generation.", {"": engine.applied.generation}),
        *_metric("gatehouse_in_trouble", "gauge", "1 while the machine may not match it.", {"": bool(engine.trouble)}),
        *_metric("gatehouse_repairs_total", "counter", "Repairs of drift.", {"": engine.repairs.count}),
        *_metric(
            "gatehouse_service_healthy",
            "gauge",
            "1 when the newest probe passed.",
            {f'service="{name}"': result.healthy for name, result in sorted(health.items())},
        ),
        *_metric(
            "gatehouse_unit_resident_bytes",
            "gauge",
            "Resident memory of each unit's main process.",
            {f'unit="{unit}"': size for unit in sorted(engine.applied.owners) if (size := _resident(engine, unit))},
        ),
        *_metric("gatehouse_agent_resident_bytes", "gauge", "Memory of the agent.", {"": _pages(os.getpid())}),
    ]
    if attempt is not None:
        lines += _metric(
            "gatehouse_attempt_seconds", "gauge", "Time the newest document took.", {"": attempt.seconds}
        ) + _metric(
            "gatehouse_attempt_stage_seconds",
            "gauge",
            "The same by stage.",
            {f'stage="{stage}"': seconds for stage, seconds in engine.seconds.items()},
        )
    text = "".join(f"{line}\n" for line in lines)
    for service in engine.services if engine.applied.state is not None else ():
        try:
            text += service.metrics(engine.applied.state, engine.host)
        except Exception:
            log.exception("metrics of %s", service.name)
    return text


def _metric(name: str, kind: str, about: str, values: Mapping[str, float]) -> list[str]:
    head = [f"# HELP {name} {about}", f"# TYPE {name} {kind}"]
    return head + [
        f"{name}{{{labels}}} {value + 0}" if labels else f"{name} {value + 0}" for labels, value in values.items()
    ]


def _resident(engine: Engine, unit: str) -> int:
    pid = engine.host.supervisor.pid(unit)
    return _pages(pid) if pid else 0


def _pages(pid: int) -> int:
    """Resident bytes of a process (proc(5), statm); 0 when it is gone."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0
