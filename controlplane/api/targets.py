"""From changed rows to routers and hosts: asking for a new state, and waiting for it where a command is synchronous."""

from __future__ import annotations

import time
from collections.abc import Callable

from sqlalchemy.orm import Session

from controlplane.api.call import Call
from controlplane.convergence.desired import desire_network
from controlplane.securitygroups import desired as policy
from controlplane.store.database import Database
from controlplane.store.models import Appliance

#: the longest a synchronous command waits; later it follows all the same
SETTLE_TIMEOUT_S = 5.0
_POLL_S = 0.02


def wake_network(call: Call, network_id: str, *, settle: bool = False) -> None:
    """For synchronous commands: ask the router of a network for what the rows say now.

    With ``settle`` the answer waits, a few seconds at most, until the router has it, so that a client that goes on to
    use what it has set up finds it.
    """
    target = desire_network(call.session, network_id)
    if target is None:
        return
    runtime = call.runtime

    def follow() -> None:
        runtime.wake(target[0])
        if settle:
            _wait(runtime.database, lambda session: _follows(session, *target))

    call.after_commit(follow)


def wake_hosts(call: Call) -> None:
    """For synchronous commands: have the hosts enforce the security groups as the rows are now.

    The answer waits, a few seconds at most, until they do.
    """
    generation = policy.desire(call.session)
    runtime = call.runtime

    def follow() -> None:
        runtime.enforce_policy()
        _wait(runtime.database, lambda session: policy.progress(session)[1] >= generation)

    call.after_commit(follow)


def _follows(session: Session, appliance_id: str, generation: int) -> bool:
    router = session.get(Appliance, appliance_id)
    return router is None or router.removed is not None or router.observed_generation >= generation


def _wait(database: Database, reached: Callable[[Session], bool]) -> None:
    deadline = time.monotonic() + SETTLE_TIMEOUT_S
    while time.monotonic() < deadline:
        with database.reading() as session:
            if reached(session):
                return
        time.sleep(_POLL_S)
