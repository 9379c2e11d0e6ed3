"""Waiting for the hosts to enforce a change of security groups."""

from __future__ import annotations

import time

from controlplane.core import Stopping
from controlplane.errors import ApiError
from controlplane.securitygroups import desired
from controlplane.workflows.flow import Flow

#: seconds until a job gives up; the hosts go on trying
PATIENCE = 60.0


def apply_security_groups(flow: Flow, generation: int) -> None:
    """Workflow: wait until every host enforces the policy of ``generation``."""
    flow.step("apply", _wait, generation)


def _wait(flow: Flow, generation: int) -> None:
    flow.core.policy_changed.set()
    deadline = time.monotonic() + PATIENCE
    while True:
        with flow.core.database.reading() as session:
            _, observed, problem = desired.progress(session)
        if observed >= generation:
            return
        if problem is not None:
            raise ApiError(f"the hosts do not take the security groups: {problem}")
        if flow.reconciler.stopping:
            raise Stopping
        if time.monotonic() > deadline:
            raise ApiError(f"the hosts did not take the security groups within {PATIENCE:.0f} s; try again")
        time.sleep(0.005)
