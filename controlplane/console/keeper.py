"""Keeps as many console proxies as each zone needs, ends sessions that are over, and fetches what was recorded."""

from __future__ import annotations

import logging
import threading
import time
from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from controlplane.console import recordings, sessions, zones
from controlplane.convergence.reconciler import Reconciler
from controlplane.core import Core
from controlplane.store.models import Account, ConsoleSession, User, Vm, Zone, now
from controlplane.systemvms.capacity import Action, plan
from controlplane.systemvms.keeper import SystemVmKeeper
from controlplane.workflows.flow import Locks

log = logging.getLogger(__name__)

#: seconds that a wish for a proxy lasts
WANTED = 60.0
#: seconds between two looks for recordings that are too old
EXPIRY = 60.0
#: a session's end may be known here before its recording is finished there
FETCH_AGAIN = timedelta(seconds=30)


class Keeper(SystemVmKeeper):
    """Looks after console proxies."""

    role = zones.ROLE

    def __init__(self, core: Core, reconciler: Reconciler, locks: Locks) -> None:
        super().__init__(core, reconciler, locks, threading.Event())
        #: zone -> monotonic time until which a proxy is wanted there
        self._wanted: dict[str, float] = {}
        #: proxies whose recordings are being fetched, and when all were that there were
        self._fetching: set[str] = set()
        self._fetched: dict[str, datetime] = {}
        self._next_expiry = 0.0

    def want(self, zone_id: str) -> None:
        """Somebody waits for a console of the zone, and no proxy has room."""
        with self._changed:
            self._wanted[zone_id] = time.monotonic() + WANTED
        self.kick()

    def satisfied(self, zone_id: str) -> None:
        """The opposite of ``want``."""
        with self._changed:
            self._wanted.pop(zone_id, None)

    def interval(self) -> float:
        with self._core.database.reading() as session:
            return self._core.configuration.get_int(session, "consoleproxy.loadscan.interval") / 1000

    def before(self) -> None:
        self._end_sessions()
        self._fetch_recordings()

    def plan(self, session: Session, zone: Zone) -> list[Action]:
        with self._changed:
            wanted = self._wanted.get(zone.id, 0.0) > time.monotonic()
        limits = zones.limits_of(self._core.configuration, session, zone)
        proxies = zones.proxies_of(self._core.configuration, session, self._reconciler, zone.id, self.busy())
        return plan(limits, proxies, wanted=wanted)

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
