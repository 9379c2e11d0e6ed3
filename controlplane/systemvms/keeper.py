"""Keeps as many system VMs of a role as each zone needs, and brings back those that fail. Level-triggered: every look
compares what is there with what should be, so nothing is lost in a crash."""

from __future__ import annotations

import logging
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from sqlalchemy import select
from sqlalchemy.orm import Session

from appliance.errors import GatehouseError
from controlplane import events
from controlplane.convergence.desired import desire
from controlplane.convergence.reconciler import Reconciler
from controlplane.convergence.roles import ROLES, role_of
from controlplane.core import Core, Stopping
from controlplane.store.defaults import SYSTEM_ACCOUNT_ID
from controlplane.store.models import Appliance, Zone
from controlplane.systemvms.capacity import Action
from controlplane.workflows import systemvms
from controlplane.workflows.flow import Flow, Locks

log = logging.getLogger(__name__)

#: seconds that nothing is launched in a zone after a launch that failed
PAUSE = 20.0


class SystemVmKeeper(ABC):
    """A thread that looks after the system VMs of one role between ``start`` and ``stop``.

    ``changed`` is set when it should look now.
    """

    #: the role it keeps
    role: str

    def __init__(self, core: Core, reconciler: Reconciler, locks: Locks, changed: threading.Event) -> None:
        self._core, self._reconciler = core, reconciler
        self._label, self._events = ROLES[self.role].label, ROLES[self.role].events
        # every look can be done again, so its steps need no record
        self._flow = Flow(core, reconciler, locks, None, lambda _name, function: function())
        self._look_now = changed
        self._changed = threading.Condition()
        self._stopping = False
        self._busy: set[str] = set()
        #: zone -> monotonic time until which none is launched there
        self._paused: dict[str, float] = {}
        self._thread = threading.Thread(target=self._run, name=f"{self.role}-keeper", daemon=True)
        self._work = ThreadPoolExecutor(8, thread_name_prefix=self.role)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End; what is under way is taken up by the next start."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        self._look_now.set()
        if self._thread.is_alive():
            self._thread.join(timeout=10)
        self._work.shutdown(wait=False, cancel_futures=True)

    def kick(self) -> None:
        """Look now."""
        self._look_now.set()

    def busy(self) -> frozenset[str]:
        """Those that something is being done to."""
        with self._changed:
            return frozenset(self._busy)

    def trouble(self, zone_id: str) -> bool:
        """Whether a launch failed a moment ago."""
        with self._changed:
            return self._paused.get(zone_id, 0.0) > time.monotonic()

    def wait(self, timeout: float) -> None:
        """Return when something was done to one, or ``timeout`` seconds have passed."""
        with self._changed:
            self._changed.wait(timeout)

    @abstractmethod
    def interval(self) -> float:
        """Seconds between two looks."""

    @abstractmethod
    def plan(self, session: Session, zone: Zone) -> list[Action]:
        """What a zone needs now."""

    def before(self) -> None:
        """What is done first at every look."""
        return None

    def _run(self) -> None:
        while True:
            if not self._stopping:
                self._look_now.wait(self.interval())
            if self._stopping:
                return
            self._look_now.clear()
            try:
                self.look()
            except Stopping:
                return
            except Exception:
                log.exception("looking after the %ss failed; it is tried again", self._label)

    def look(self) -> None:
        """One look: what comes first, then what each zone needs."""
        self.before()
        with self._core.database.reading() as session:
            found = list(session.scalars(select(Zone).order_by(Zone.created)))
            plans = [(zone, self.plan(session, zone)) for zone in found]
        for zone, actions in plans:
            for action in actions:
                if action.kind != "launch" or not self.trouble(zone.id):
                    self._do(zone, action)
        self._prepare()

    def _do(self, zone: Zone, action: Action) -> None:
        vm_id = action.vm_id or self._launch(zone)
        if vm_id is None:
            return
        work: dict[str, Callable[[str, str], None]] = {
            "launch": self._boot,
            "boot": self._boot,
            "restart": self._restart,
            "remove": self._remove,
        }
        with self._changed:
            if self._stopping or vm_id in self._busy:
                return
            self._busy.add(vm_id)
        self._work.submit(self._guarded, work[action.kind], zone.id, vm_id, action.reason)

    def _guarded(self, work: Callable[[str, str], None], zone_id: str, vm_id: str, reason: str) -> None:
        done = False
        try:
            work(vm_id, reason)
            done = True
        except Stopping:
            return
        except Exception as error:
            if not self._reconciler.stopping:
                log.warning("%s %s: %s", self._label, vm_id, error, exc_info=not isinstance(error, GatehouseError))
        finally:
            with self._changed:
                self._busy.discard(vm_id)
                if not done and work == self._boot:
                    self._paused[zone_id] = time.monotonic() + PAUSE
                self._changed.notify_all()
        # what failed waits for the next look
        if done:
            self.kick()

    def _launch(self, zone: Zone) -> str | None:
        try:
            with self._core.database.transaction() as session:
                made = systemvms.create(session, self._flow, zone.id, self.role)
        except GatehouseError as error:
            log.warning("zone %s needs a %s: %s", zone.name, self._label, error)
            with self._changed:
                self._paused[zone.id] = time.monotonic() + PAUSE
            return None
        log.info("zone %s gets %s %s", zone.name, self._label, made.name)
        return made.id

    def _boot(self, vm_id: str, reason: str) -> None:
        systemvms.boot(self._flow, vm_id)

    def _restart(self, vm_id: str, reason: str) -> None:
        self._tell(vm_id, f"is restarted: {reason}")
        systemvms.restart(self._flow, vm_id)

    def _remove(self, vm_id: str, reason: str) -> None:
        self._tell(vm_id, f"is removed: {reason}")
        systemvms.remove(self._flow, vm_id)

    def _tell(self, vm_id: str, text: str) -> None:
        with self._core.database.transaction() as session:
            row = session.get_one(Appliance, vm_id)
            log.info("%s %s %s", self._label, row.name, text)
            events.record(
                session,
                f"{self._events}.HA",
                f"{self._label} {row.name} {text}",
                account_id=SYSTEM_ACCOUNT_ID,
                level="WARN",
                resource=("SystemVm", vm_id),
            )

    def _prepare(self) -> None:
        """Certificates that are due, or for names that were changed."""
        with self._core.database.reading() as session:
            there = select(Appliance.id).where(Appliance.role == self.role, Appliance.removed.is_(None))
            found = list(session.scalars(there))
        for vm_id in found:
            with self._core.database.transaction() as session:
                row = session.get_one(Appliance, vm_id)
                changed = row.removed is None and role_of(row).prepare(session, row, self._core)
                if changed:
                    desire(session, vm_id)
            if changed:
                self._reconciler.wake(vm_id)
