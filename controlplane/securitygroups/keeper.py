"""Keeps hosts at the desired policy: compiles the rows, has the hypervisor enforce it, repairs what others changed.

Level-triggered: what is left to do is ``observed < desired``, and now and then the rows are compiled anew whatever the
generations say, so a VM that stopped by itself leaves its groups too.
"""

from __future__ import annotations

import logging
import threading
import time

from appliance.errors import GatehouseError
from controlplane import events
from controlplane.core import Core
from controlplane.hypervisors.policy import Policy
from controlplane.securitygroups import compile, desired
from controlplane.store.defaults import SYSTEM_ACCOUNT_ID

log = logging.getLogger(__name__)

#: seconds between two looks at the generation, at the hosts' filters, and at the rows
LOOK, REPAIR, SWEEP = 0.25, 2.0, 5.0


class PolicyKeeper:
    """A thread between ``start`` and ``stop``."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="port-policy", daemon=True)
        #: what the hosts enforce; None when it is not known
        self._applied: Policy | None = None
        self._swept = self._repaired = 0.0

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._core.policy_changed.set()
        if self._thread.is_alive():
            self._thread.join(timeout=30)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self.look()
            except Exception:
                log.exception("looking after the guests' ports failed; next try in a moment")
            self._core.policy_changed.wait(LOOK)
            self._core.policy_changed.clear()

    def look(self) -> None:
        """Do what is due."""
        moment = time.monotonic()
        with self._core.database.reading() as session:
            wanted, observed, _ = desired.progress(session)
            due = wanted > observed or self._applied is None or moment - self._swept > SWEEP
            policy = compile.load(session) if due else None
        if policy is not None:
            self._swept = moment
            self._apply(policy, wanted, behind=wanted > observed)
        if moment - self._repaired > REPAIR:
            self._repaired = moment
            self._repair()

    def _apply(self, policy: Policy, generation: int, *, behind: bool) -> None:
        problem = None
        try:
            if policy != self._applied:
                self._core.hypervisor.apply_policy(policy)
                self._applied = policy
        except GatehouseError as error:
            log.error("security groups: %s", error)
            # what the hosts enforce is now in doubt, so the next look tries again
            problem, self._applied = str(error), None
        if behind or problem is not None:
            with self._core.database.transaction() as session:
                desired.observe(session, generation, problem)

    def _repair(self) -> None:
        wrong = self._core.hypervisor.repair_filter()
        if not wrong:
            return
        shown = "; ".join(wrong[:5]) + (f" and {len(wrong) - 5} more" if len(wrong) > 5 else "")
        log.warning("the filter of guests' ports had been changed and was repaired: %s", shown)
        with self._core.database.transaction() as session:
            events.record(
                session,
                "SG.REPAIR",
                f"the filter of guests' ports had been changed and was repaired: {shown}",
                account_id=SYSTEM_ACCOUNT_ID,
                level="WARN",
            )
