"""From changed rows to routers: asking for a new state, and waiting for it where a command is synchronous."""

from __future__ import annotations

import time

from controlplane.api.call import Call
from controlplane.convergence.desired import desire_network
from controlplane.store.database import Database
from controlplane.store.models import Appliance

#: the longest a synchronous command waits for the router; later it follows all the same
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
            _wait(runtime.database, *target)

    call.after_commit(follow)


def _wait(database: Database, appliance_id: str, generation: int) -> None:
    deadline = time.monotonic() + SETTLE_TIMEOUT_S
    while time.monotonic() < deadline:
        with database.reading() as session:
            router = session.get(Appliance, appliance_id)
            if router is None or router.removed is not None or router.observed_generation >= generation:
                return
        time.sleep(_POLL_S)
