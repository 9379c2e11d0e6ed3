"""What a workflow has in its hands: the control plane, its job, and steps that run once.

A workflow is a plain function ``workflow(flow, **arguments)``. Work goes into steps; a step must be idempotent, for a
crash before its end is recorded makes it run again. After a crash the workflow is called again, and steps that had
ended give what they gave before.
"""

from __future__ import annotations

import logging
import threading
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from appliance.errors import GatehouseError
from controlplane.convergence.reconciler import Reconciler
from controlplane.core import Core, Stopping
from controlplane.errors import ApiError
from controlplane.store.models import AsyncJob
from controlplane.workflows.turns import Turns

log = logging.getLogger(__name__)

Json = Any
T = TypeVar("T")

#: runs a step: name and function -> its result, which is JSON
StepRunner = Callable[[str, Callable[[], Json]], Json]


@dataclass
class Locks:
    """One lock for each name; workflows that build or remove the same network take turns."""

    _locks: defaultdict[str, threading.RLock] = field(default_factory=lambda: defaultdict(threading.RLock))
    #: snapshots that are being made, by host
    snapshots: Turns = field(default_factory=Turns)

    def of(self, name: str) -> threading.RLock:
        return self._locks[name]


@dataclass(frozen=True)
class Flow:
    """One run of a workflow. ``job_id`` is None when nobody waits for it (garbage collection)."""

    core: Core
    reconciler: Reconciler
    locks: Locks
    job_id: str | None
    run_step: StepRunner

    def step(self, name: str, function: Callable[..., T], *arguments: Any) -> T:
        """Run ``function(flow, *arguments)`` as a step; its result must be JSON. Raises ApiError for what it raises.

        Raises Stopping when the control plane is being stopped: the step is then run again at the next start.
        """
        answer = self.run_step(name, lambda: _caught(self, function, *arguments))
        if "failed" in answer:
            raise ApiError(answer["failed"], code=answer["code"], cs_code=answer["cs_code"])
        result: T = answer["result"]
        return result

    def still(self, vm_id: str | None) -> bool:
        """Whether a VM, if there is one, writes to no disk; as long as its lock is held that stays so."""
        return vm_id is None or self.core.hypervisor.power(vm_id) in ("stopped", "absent")

    def progress(self, text: str) -> None:
        """Tell who asks for the job why it is not done yet."""
        if self.job_id is None:
            return
        with self.core.database.transaction() as session:
            job = session.get(AsyncJob, self.job_id)
            if job is not None and job.status == 0:
                job.progress = text


def _caught(flow: Flow, function: Callable[..., Json], *arguments: Any) -> dict[str, Json]:
    # errors become values: what is recorded is then JSON, and the same when it is read back after a crash
    if flow.reconciler.stopping:
        raise Stopping
    try:
        return {"result": function(flow, *arguments)}
    except Exception as error:
        if flow.reconciler.stopping:
            # the hypervisor and the tables are being closed: that says nothing about the work itself
            raise Stopping from error
        return _failure(error)


def _failure(error: Exception) -> dict[str, Json]:
    if isinstance(error, ApiError):
        return {"failed": error.text, "code": error.code, "cs_code": error.cs_code}
    if isinstance(error, GatehouseError):
        return {"failed": str(error), "code": ApiError.code, "cs_code": ApiError.cs_code}
    log.error("a workflow step failed unexpectedly", exc_info=error)
    text = f"internal error: {error}; the log of the control plane has more"
    return {"failed": text, "code": ApiError.code, "cs_code": 9999}
