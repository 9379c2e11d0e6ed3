"""Opening a console: the guest's screen, a proxy with room, and the proxy's word that it has the session."""

from __future__ import annotations

import logging
import threading
import time

from sqlalchemy.orm import Session

from appliance.errors import GatehouseError
from controlplane.console import recordings, sessions, zones
from controlplane.console.endpoints import Endpoint, Starting
from controlplane.console.keeper import Keeper
from controlplane.convergence.reconciler import Reconciler, WaitError
from controlplane.core import Core
from controlplane.errors import ApiError, InUseError
from controlplane.hypervisors.base import ConsoleTarget
from controlplane.store.models import ConsoleSession, Vm, Zone
from controlplane.store.recordings import Recording
from controlplane.systemvms import rows as systemvms
from controlplane.systemvms.capacity import choose
from controlplane.systemvms.names import Names, names_of

log = logging.getLogger(__name__)

#: seconds that a caller waits: for a proxy to start where there is none, and for one to take the session; many clients
#: wait for ten
START_WAIT, PUSH_WAIT = 8.0, 10.0
#: the same for a page that asks again
RESUME_WAIT = 4.0


class NoConsoleError(ApiError):
    """The console cannot be shown now; the text says why."""

    code = 534


class _NotYetError(GatehouseError):
    """A proxy is being started."""


class Consoles:
    """Opens sessions; calls may wait for seconds."""

    def __init__(self, core: Core, reconciler: Reconciler, keeper: Keeper) -> None:
        self._core, self._reconciler, self._keeper = core, reconciler, keeper
        #: sessions that ``resume`` is at
        self._resuming: set[str] = set()
        self._turn = threading.Lock()

    def open(self, session_id: str, token: str, recorded: str | None = None, part: int = 1) -> Endpoint | Starting:
        """Give a session, whose row was committed, to a proxy; returns when the proxy has it, or is not up soon.

        ``recorded``: it shows the recording of that session's connection number ``part``. Raises NoConsoleError, and
        the session is over then.
        """
        try:
            return self._open(session_id, token, recorded, part, START_WAIT)
        except _NotYetError as error:
            if recorded is None:
                with self._core.database.transaction() as session:
                    sessions.wait(session, session_id)
                return Starting(token)
            self._give_up(session_id, str(error))
            raise NoConsoleError(f"{error}; try again in a minute") from error
        except GatehouseError as error:
            raise self._given_up(session_id, error) from error

    def resume(self, token_hash: str, token: str) -> Endpoint | Starting:
        """``open`` again for a session that waits; the same result. Raises NoConsoleError."""
        with self._core.database.reading() as session, self._turn:
            row = sessions.waiting(session, token_hash)
            if row is None:
                raise NoConsoleError("this link is not valid any more; open the console again from the cloud's page")
            session_id = row.id
            if session_id in self._resuming:
                return Starting(token)
            self._resuming.add(session_id)
        try:
            return self._open(session_id, token, None, 1, RESUME_WAIT)
        except _NotYetError:
            return Starting(token)
        except GatehouseError as error:
            raise self._given_up(session_id, error) from error
        finally:
            with self._turn:
                self._resuming.discard(session_id)

    def _given_up(self, session_id: str, error: GatehouseError) -> ApiError:
        self._give_up(session_id, str(error))
        return error if isinstance(error, ApiError) else NoConsoleError(f"the console cannot be shown: {error}")

    def _open(self, session_id: str, token: str, recorded: str | None, part: int, patience: float) -> Endpoint:
        with self._core.database.reading() as session:
            row = session.get_one(ConsoleSession, session_id)
            vm_id, zone_id = row.vm_id, session.get_one(Vm, row.vm_id).zone_id
        target = self._recording(recorded, part) if recorded else self._core.hypervisor.console(vm_id)
        deadline = time.monotonic() + patience
        while True:
            proxy_id, generation, names = self._give(session_id, zone_id, target, deadline)
            try:
                self._reconciler.wait(proxy_id, generation, timeout=PUSH_WAIT, ids=frozenset([session_id]))
            except WaitError as error:
                if time.monotonic() > deadline:
                    raise NoConsoleError(f"the console proxy did not take the session: {error}") from error
                if proxy_id in self._keeper.busy() or self._reconciler.silence(proxy_id):
                    continue  # another one may be better
                raise
            if isinstance(target, Recording):
                recordings.bring(self._core, proxy_id, target.name)
            return Endpoint(names.host, token)

    def _recording(self, session_id: str, part: int) -> Recording:
        found = recordings.find(self._core, session_id, part)
        if found is None:
            raise NoConsoleError(f"session {session_id} has no recording {part}: none was made, or it is gone by now")
        return found

    def delete_recordings(self, session_id: str) -> None:
        """Delete what is kept of a session, here and at its proxy. Raises NoConsoleError when that does not answer."""
        try:
            recordings.delete(self._core, session_id)
        except (GatehouseError, OSError) as error:
            raise NoConsoleError(f"the recordings cannot be deleted now: {error}") from error

    def _give(
        self, session_id: str, zone_id: str, target: ConsoleTarget | Recording, deadline: float
    ) -> tuple[str, int, Names]:
        """A proxy with room has the session in its next document: its id, that generation and its names."""
        while True:
            busy = self._keeper.busy()
            with self._core.database.transaction() as session:
                row = session.get_one(ConsoleSession, session_id)
                if row.state != "Pending":
                    raise InUseError(f"the console was closed meanwhile: {row.reason}")
                zone = session.get_one(Zone, zone_id)
                proxy_id = self._choose(session, zone, row, busy)
                if proxy_id is not None:
                    generation = sessions.give(session, self._core.secrets, row, proxy_id, target)
                    self._keeper.satisfied(zone_id)
                    # room for the next ones is seen to while this one is served
                    names = self._names(session, proxy_id)
                    break
                late = time.monotonic() > deadline
                if late and not self._keeper.trouble(zone_id) and self._coming(session, zone, busy):
                    raise _NotYetError(f"a console proxy of zone {zone.name} is being started")
            if late or self._keeper.trouble(zone_id):
                raise NoConsoleError(
                    f"zone {zone.name} has no console proxy with room now; try again in a minute, or have one ready "
                    "by consoleproxy.minimum"
                )
            self._keeper.want(zone_id)
            self._keeper.wait(0.2)
        self._keeper.kick()
        return proxy_id, generation, names

    def _choose(self, session: Session, zone: Zone, row: ConsoleSession, busy: frozenset[str]) -> str | None:
        limits = zones.limits_of(self._core.configuration, session, zone)
        if limits.disabled:
            raise NoConsoleError(f"consoles are disabled in zone {zone.name} (consoleproxy.disabled)")
        proxies = zones.proxies_of(self._core.configuration, session, self._reconciler, zone.id, busy)
        return choose(limits, proxies, sessions.last_proxy(session, row.vm_id))

    def _coming(self, session: Session, zone: Zone, busy: frozenset[str]) -> bool:
        """Whether something is being done to a proxy that is to serve, or soon will be."""
        found = zones.proxies_of(self._core.configuration, session, self._reconciler, zone.id, busy)
        return any(not one.serves and not one.stopped for one in found)

    def _names(self, session: Session, proxy_id: str) -> Names:
        address = systemvms.public_address(session, proxy_id).address
        return names_of(address, self._core.configuration.get(session, "consoleproxy.url.domain"))

    def _give_up(self, session_id: str, reason: str) -> None:
        with self._core.database.transaction() as session:
            woken = sessions.close(session, ConsoleSession.id == session_id, reason[:255])
        for proxy_id in woken:
            self._reconciler.wake(proxy_id)
