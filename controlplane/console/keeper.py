"""Keeps as many console proxies as each zone needs, and brings back those that fail. Level-triggered: every look
compares what is there with what should be, so nothing is lost in a crash."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from appliance.errors import GatehouseError
from controlplane import events
from controlplane.console import recordings, sessions, zones
from controlplane.console.capacity import Action, plan
from controlplane.convergence.desired import desire
from controlplane.convergence.reconciler import Reconciler
from controlplane.convergence.roles import role_of
from controlplane.core import Core, Stopping
from controlplane.store.defaults import SYSTEM_ACCOUNT_ID
from controlplane.store.models import Account, Appliance, ConsoleSession, User, Vm, Zone, now
from controlplane.workflows import systemvms
from controlplane.workflows.flow import Flow, Locks

log = logging.getLogger(__name__)

#: seconds that a wish for a proxy lasts, and that nothing is launched after a launch that failed
WANTED, PAUSE = 60.0, 20.0
#: seconds between two looks for recordings that are too old
EXPIRY = 60.0
#: a session's end may be known here before its recording is finished there
FETCH_AGAIN = timedelta(seconds=30)


class Keeper:
    """A thread that looks after console proxies between ``start`` and ``stop``."""

    def __init__(self, core: Core, reconciler: Reconciler, locks: Locks) -> None:
        self._core, self._reconciler = core, reconciler
        # every look can be done again, so its steps need no record
        self._flow = Flow(core, reconciler, locks, None, lambda _name, function: function())
        self._changed = threading.Condition()
        self._stopping = False
        self._kicked = False
        self._busy: set[str] = set()
        #: zone -> monotonic time until which a proxy is wanted there, and until which none is launched
        self._wanted: dict[str, float] = {}
        self._paused: dict[str, float] = {}
        #: proxies whose recordings are being fetched, and when all were that there were
        self._fetching: set[str] = set()
        self._fetched: dict[str, datetime] = {}
        self._next_expiry = 0.0
        self._thread = threading.Thread(target=self._run, name="console-keeper", daemon=True)
        self._work = ThreadPoolExecutor(8, thread_name_prefix="console-proxy")

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End; what is under way is taken up by the next start."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join(timeout=10)
        self._work.shutdown(wait=False, cancel_futures=True)

    def want(self, zone_id: str) -> None:
        """Somebody waits for a console of the zone, and no proxy has room."""
        with self._changed:
            self._wanted[zone_id] = time.monotonic() + WANTED
        self.kick()

    def satisfied(self, zone_id: str) -> None:
        """The opposite of ``want``."""
        with self._changed:
            self._wanted.pop(zone_id, None)

    def kick(self) -> None:
        """Look now."""
        with self._changed:
            self._kicked = True
            self._changed.notify_all()

    def busy(self) -> frozenset[str]:
        """Proxies that something is being done to."""
        with self._changed:
            return frozenset(self._busy)

    def trouble(self, zone_id: str) -> bool:
        """Whether a launch failed a moment ago."""
        with self._changed:
            return self._paused.get(zone_id, 0.0) > time.monotonic()

    def wait(self, timeout: float) -> None:
        """Return when something was done to a proxy, or ``timeout`` seconds have passed."""
        with self._changed:
            self._changed.wait(timeout)

    def _run(self) -> None:
        while True:
            with self._changed:
                if not self._kicked and not self._stopping:
                    self._changed.wait(self._interval())
                if self._stopping:
                    return
                self._kicked = False
            try:
                self.look()
            except Stopping:
                return
            except Exception:
                log.exception("looking after the console proxies failed; it is tried again")

    def _interval(self) -> float:
        with self._core.database.reading() as session:
            return self._core.configuration.get_int(session, "consoleproxy.loadscan.interval") / 1000

    def look(self) -> None:
        """One look: end sessions that are over, then do in each zone what it needs."""
        self._end_sessions()
        self._fetch_recordings()
        with self._core.database.reading() as session:
            found = list(session.scalars(select(Zone).order_by(Zone.created)))
            plans = [(zone, self._plan(session, zone)) for zone in found]
        for zone, actions in plans:
            for action in actions:
                self._do(zone, action)
        self._prepare()

    def _plan(self, session: Session, zone: Zone) -> list[Action]:
        with self._changed:
            wanted = self._wanted.get(zone.id, 0.0) > time.monotonic()
            paused = self._paused.get(zone.id, 0.0) > time.monotonic()
            busy = frozenset(self._busy)
        limits = zones.limits_of(self._core.configuration, session, zone)
        proxies = zones.proxies_of(self._core.configuration, session, self._reconciler, zone.id, busy)
        actions = plan(limits, proxies, wanted=wanted)
        return [action for action in actions if action.kind != "launch" or not paused]

    def _do(self, zone: Zone, action: Action) -> None:
        proxy_id = action.proxy or self._launch(zone)
        if proxy_id is None:
            return
        work: dict[str, Callable[[str, str], None]] = {
            "launch": self._boot,
            "boot": self._boot,
            "restart": self._restart,
            "remove": self._remove,
        }
        with self._changed:
            if self._stopping or proxy_id in self._busy:
                return
            self._busy.add(proxy_id)
        self._work.submit(self._guarded, work[action.kind], zone.id, proxy_id, action.reason)

    def _guarded(self, work: Callable[[str, str], None], zone_id: str, proxy_id: str, reason: str) -> None:
        done = False
        try:
            work(proxy_id, reason)
            done = True
        except Stopping:
            return
        except Exception as error:
            if not self._reconciler.stopping:
                log.warning("console proxy %s: %s", proxy_id, error, exc_info=not isinstance(error, GatehouseError))
        finally:
            with self._changed:
                self._busy.discard(proxy_id)
                if not done and work == self._boot:
                    self._paused[zone_id] = time.monotonic() + PAUSE
                self._changed.notify_all()
        # what failed waits for the next look
        if done:
            self.kick()

    def _launch(self, zone: Zone) -> str | None:
        try:
            with self._core.database.transaction() as session:
                proxy = systemvms.create(session, self._flow, zone.id, zones.ROLE)
        except GatehouseError as error:
            log.warning("zone %s needs a console proxy: %s", zone.name, error)
            with self._changed:
                self._paused[zone.id] = time.monotonic() + PAUSE
            return None
        log.info("zone %s gets console proxy %s", zone.name, proxy.name)
        return proxy.id

    def _boot(self, proxy_id: str, reason: str) -> None:
        systemvms.boot(self._flow, proxy_id)

    def _restart(self, proxy_id: str, reason: str) -> None:
        self._tell(proxy_id, f"is restarted: {reason}")
        systemvms.restart(self._flow, proxy_id)

    def _remove(self, proxy_id: str, reason: str) -> None:
        self._tell(proxy_id, f"is removed: {reason}")
        systemvms.remove(self._flow, proxy_id)

    def _tell(self, proxy_id: str, text: str) -> None:
        with self._core.database.transaction() as session:
            proxy = session.get_one(Appliance, proxy_id)
            log.info("console proxy %s %s", proxy.name, text)
            events.record(
                session,
                "PROXY.HA",
                f"console proxy {proxy.name} {text}",
                account_id=SYSTEM_ACCOUNT_ID,
                level="WARN",
                resource=("SystemVm", proxy_id),
            )

    def _prepare(self) -> None:
        """Certificates that are due, or for names that were changed."""
        with self._core.database.reading() as session:
            there = select(Appliance.id).where(Appliance.role == zones.ROLE, Appliance.removed.is_(None))
            proxies = list(session.scalars(there))
        for proxy_id in proxies:
            with self._core.database.transaction() as session:
                proxy = session.get_one(Appliance, proxy_id)
                changed = proxy.removed is None and role_of(proxy).prepare(session, proxy, self._core)
                if changed:
                    desire(session, proxy_id)
            if changed:
                self._reconciler.wake(proxy_id)

    def _fetch_recordings(self) -> None:
        """Fetch what was recorded since the last time that nothing was left, and let go of what is too old."""
        with self._core.database.reading() as session:
            due = sessions.recorded_until(session)
        for proxy_id, until in due.items():
            fetched = self._fetched.get(proxy_id)
            if proxy_id not in self._fetching and (fetched is None or until > fetched - FETCH_AGAIN):
                self._fetching.add(proxy_id)
                self._work.submit(self._fetch, proxy_id)
        if time.monotonic() >= self._next_expiry:
            self._next_expiry = time.monotonic() + EXPIRY
            recordings.expire(self._core)

    def _fetch(self, proxy_id: str) -> None:
        begun = now()
        try:
            if recordings.fetch_from(self._core, proxy_id):
                self._fetched[proxy_id] = begun
        except Exception as error:
            if not self._reconciler.stopping:
                log.warning("recordings of console proxy %s: %s", proxy_id, error)
        finally:
            self._fetching.discard(proxy_id)

    def _end_sessions(self) -> None:
        """Sessions that nobody opened, and those of guests and users that are no more."""
        with self._core.database.reading() as session:
            if (
                session.scalars(select(ConsoleSession.id).where(ConsoleSession.state != "Ended").limit(1)).first()
                is None
            ):
                return
        with self._core.database.transaction() as session:
            sessions.expire(session)
            running = select(Vm.id).where(Vm.state == "Running", Vm.removed.is_(None))
            allowed = select(User.id).join(Account).where(User.state == "enabled", User.removed.is_(None))
            allowed = allowed.where(Account.state == "enabled")
            woken = [
                *sessions.close(
                    session,
                    ConsoleSession.vm_id.not_in(running) & sessions.shows_a_guest(),
                    "the virtual machine does not run",
                ),
                *sessions.close(session, ConsoleSession.user_id.not_in(allowed), "the user was disabled"),
            ]
        for proxy_id in dict.fromkeys(woken):
            self._reconciler.wake(proxy_id)
