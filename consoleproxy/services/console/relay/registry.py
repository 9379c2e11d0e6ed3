"""The sessions of this proxy: who may open one, whose are open, and when each is over.

A session is used once, by its token. Whoever used it may come back by a secret that the browser got then (a cookie),
as often as needed until the session ends: a broken connection, a reload of the page and a restart of the relay are no
second use. It ends when it leaves the document, when nobody came back for ``reconnect_limit`` seconds, at its idle or
length limit, or unused at its ``expires``.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import logging
import secrets
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

from consoleproxy.services.console.model import Console, Playback, Session
from consoleproxy.services.console.relay import link as links
from consoleproxy.services.console.relay.ledger import KEEP, Ledger, Used
from consoleproxy.services.console.relay.link import Link
from consoleproxy.services.console.relay.playback import Clock

log = logging.getLogger(__name__)


class RefusedError(Exception):
    """No session for this request. The text is for the log; ``state`` is what the page is told."""

    def __init__(self, state: str, text: str) -> None:
        super().__init__(text)
        self.state = state


@dataclass
class Live:
    """A session of the document: ``used`` once it was, ``link`` while it has a connection."""

    session: Session
    used: Used | None = None
    link: Link | None = None
    #: its use is on its way to the disk
    busy: bool = False
    #: where it is in the recording that it shows
    clock: Clock = field(default_factory=Clock)


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


class Registry:
    """All sessions. Lives in the event loop's thread; the ledger is written in another, in the order of the calls."""

    def __init__(self, ledger: Ledger, console: Console) -> None:
        self._ledger, self.console = ledger, console
        self._writer = ThreadPoolExecutor(1, "ledger")
        self._remembered = ledger.used()
        self.sessions: dict[str, Live] = {}
        self._by_token: dict[str, Live] = {}
        self._told = 0
        #: octets of links that are gone
        self.sent = self.received = self.refused = 0
        # a relay that was killed said nothing of the connections it had
        for one in list(self._remembered.values()):
            if one.left is None and one.ended is None:
                self._left(one, time.time(), "the proxy was restarted", None)
        self.load(console)

    # ---- the document

    def load(self, console: Console) -> None:
        """Take over a new section: sessions that are not in it any more are closed."""
        self.console = console
        wanted = {session.id: session for session in console.sessions}
        for session_id in list(self.sessions.keys() - wanted.keys()):
            live = self.sessions.pop(session_id)
            self._end(live, "ended by the cloud", links.ENDED)
        for session in console.sessions:
            known = self.sessions.get(session.id)
            if known is None:
                self.sessions[session.id] = Live(session, self._remembered.get(session.id))
            else:
                known.session = session
        self._by_token = {live.session.token_hash: live for live in self.sessions.values()}
        self._do(self._ledger.forget, console.acknowledged, frozenset(wanted))
        old = time.time() - KEEP
        for gone in [one for one in self._remembered.values() if one.id not in wanted and (one.left or old) < old]:
            del self._remembered[gone.id]
        self.tick()

    # ---- who may come in

    def by_token(self, token: str, client: str) -> Live:
        """The session of a token that was not used yet. Raises RefusedError."""
        live = self._by_token.get(_hash(token).hex())
        if live is None:
            raise RefusedError("unknown", "no session has this token")
        self._admit(live, client)
        if live.used is not None or live.busy:
            raise RefusedError("used", f"session {live.session.id} was used before")
        if live.session.expires.timestamp() <= time.time():
            raise RefusedError("expired", f"session {live.session.id} expired unused")
        return live

    def by_secret(self, session_id: str, secret: str, client: str) -> Live:
        """The session that a browser used before and comes back to. Raises RefusedError."""
        live = self.sessions.get(session_id)
        # one that left the document is remembered: its browser is told that it is over
        used = live.used if live is not None else self._remembered.get(session_id)
        if used is None or not hmac.compare_digest(used.secret, _hash(secret)):
            raise RefusedError("unknown", "no session has this secret")
        if live is None or used.ended is not None:
            raise RefusedError("ended", f"session {session_id} has ended: {used.ended}")
        self._admit(live, client)
        return live

    def _admit(self, live: Live, client: str) -> None:
        bound = live.session.policy.client
        if bound is not None and str(bound) != client:
            raise RefusedError("unknown", f"session {live.session.id} is for {bound}, not {client}")

    def room(self, live: Live) -> bool:
        """Whether ``live`` may have a connection beside those there are."""
        return self.open(but=live) < self.console.session_max

    def played(self) -> frozenset[str]:
        """The recordings that sessions show."""
        targets = [live.session.target for live in self.sessions.values()]
        return frozenset(target.recording for target in targets if isinstance(target, Playback))

    def open(self, but: Live | None = None) -> int:
        return sum(live.link is not None or live.busy for live in self.sessions.values() if live is not but)

    async def use(self, live: Live, client: str) -> str:
        """Use a session up; the secret to come back with. Raises RefusedError when it was used or ended meanwhile."""
        secret = secrets.token_urlsafe(32)
        used = Used(live.session.id, time.time(), _hash(secret), client)
        live.busy = True
        try:
            first = await asyncio.get_running_loop().run_in_executor(self._writer, self._ledger.use, used)
        finally:
            live.busy = False
        if not first:
            raise RefusedError("used", f"session {live.session.id} was used before")
        if self.sessions.get(live.session.id) is not live:
            raise RefusedError("ended", f"session {live.session.id} left the document while it was opened")
        live.used = self._remembered[used.id] = used
        return secret

    # ---- connections

    def connect(self, live: Live, link: Link) -> None:
        """``link`` is the session's connection now; one that it has already gives way."""
        assert live.used is not None
        if live.link is not None:
            old, live.link = live.link, None
            self._gone(live, old, "taken over by a newer connection")
            old.close(links.ELSEWHERE, "opened elsewhere")
        live.link = link
        live.used = self._remembered[live.session.id] = replace(live.used, client=link.client, left=None)
        self._do(self._ledger.come_back, live.session.id, link.client)
        self._record(live.session.id, "connected", client=link.client, time=link.began)

    def disconnected(self, live: Live, link: Link, reason: str) -> None:
        """A link has ended by itself."""
        if live.link is link:
            live.link = None
            self._gone(live, link, reason)

    def _gone(self, live: Live, link: Link, reason: str) -> None:
        self.sent += link.sent
        self.received += link.received
        assert live.used is not None
        live.used = self._left(live.used, time.time(), reason, link)

    def _left(self, used: Used, when: float, reason: str, link: Link | None) -> Used:
        used = self._remembered[used.id] = replace(used, left=when)
        self._do(self._ledger.leave, used.id, when)
        facts: dict[str, Any] = {"client": used.client, "reason": reason, "time": when}
        if link is not None:
            facts |= {"began": link.began, "sent": link.sent, "received": link.received}
        self._record(used.id, "disconnected", **facts)
        return used

    def _end(self, live: Live, reason: str, code: int) -> None:
        """The session is over for good."""
        if live.link is not None:
            link, live.link = live.link, None
            self._gone(live, link, reason)
            link.close(code, reason)
        if live.used is not None and live.used.ended is not None:
            return
        when = time.time()
        used = live.used or Used(live.session.id, when, b"", "", when)
        live.used = self._remembered[used.id] = replace(used, ended=reason)
        self._do(self._ledger.end, used.id, reason, when)
        self._record(used.id, "ended", reason=reason, time=when)

    def tick(self) -> None:
        """End what is due; called every second."""
        now, moment, console = time.time(), time.monotonic(), self.console
        for live in self.sessions.values():
            used, link = live.used, live.link
            if used is None:
                if not live.busy and live.session.expires.timestamp() <= now:
                    self._end(live, "expired unused", links.ENDED)
            elif used.ended is not None:
                continue
            elif console.length_limit is not None and now - used.used > console.length_limit:
                self._end(live, "reached its maximum length", links.TOO_LONG)
            elif link is not None:
                if console.idle_limit is not None and moment - link.last_input > console.idle_limit:
                    self._end(live, "idle for too long", links.IDLE)
            elif used.left is not None and now - used.left > console.reconnect_limit:
                self._end(live, "nobody came back", links.ENDED)

    # ---- what is told

    async def records(self) -> list[dict[str, Any]]:
        """Everything that was not acknowledged yet, what is on its way to the disk included."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._writer, self._ledger.records, self.console.acknowledged)

    def _record(self, session_id: str, what: str, **facts: Any) -> None:
        log.info("session %s %s: %s", session_id, what, facts.get("reason") or facts.get("client", ""))
        self._do(self._ledger.write, {"session": session_id, "what": what, **facts})

    def _do(self, write: Any, *arguments: Any) -> None:
        self._writer.submit(write, *arguments).add_done_callback(_report_failure)

    def close(self) -> None:
        """The relay stops: pages are told to come back."""
        for live in self.sessions.values():
            if live.link is not None:
                link, live.link = live.link, None
                self._gone(live, link, "the proxy was restarted")
                link.close(links.RESTART, "the proxy is restarted")
        self._writer.shutdown()
        with contextlib.suppress(Exception):
            self._ledger.close()


def _report_failure(done: Any) -> None:
    if (error := done.exception()) is not None:
        log.error("the ledger cannot be written: %s", error)
