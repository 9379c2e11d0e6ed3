"""The watch over site-to-site connections: calls peers, calls again, and tells how each connection is.

charon sets up what it is asked for and keeps it up; whether to call again after a peer refused, hung up or died is
decided here, so that two ends do not chase each other. A thread of the agent listens to charon's events.
"""

from __future__ import annotations

import contextlib
import logging
import re
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from router.services.vpn.charon import Charon, RefusedError, Tunnel, charon, session
from router.services.vpn.connections import children, identity, name
from router.services.vpn.model import SiteConnection

log = logging.getLogger(__name__)

_EVENTS = ("log", "ike-updown", "child-updown")
#: seconds between two looks when nothing happens
INTERVAL = 0.5
#: pauses before a peer is called again, in seconds
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0
#: the end with the higher address calls later by this: mostly it is called meanwhile, and there is one tunnel, not two
YIELD = 0.3

#: what charon says when the two ends do not agree; group 1 is for people
_REFUSALS = re.compile(
    r"received ((?:AUTHENTICATION_FAILED|NO_PROPOSAL_CHOSEN|TS_UNACCEPTABLE|INVALID_ID_INFORMATION|INVALID_SYNTAX"
    r"|PAYLOAD_MALFORMED|INVALID_HASH_INFORMATION)\S*) "
    r"|(tried \d+ shared keys? .*|received proposals unacceptable|no proposal found"
    r"|no acceptable (?:proposal|traffic selectors) found|.*decryption failed\?.*"
    r"|traffic selectors .* unacceptable|no matching CHILD_SA config found.*|IDir '.*' does not match to '.*')"
)
#: a peer as it calls itself, before any connection is found for it: addresses of both ends, its name
_CALLER = re.compile(r"peer configs matching ([0-9.]+)(?:\[\S*\])?\.\.\.([0-9.]+)\[(\S+)\]$")
_SILENCE = re.compile(r"(peer not responding, trying again|giving up after \d+ retransmits)")

_MEANING = {
    "AUTHENTICATION_FAILED": "the peer refused the preshared key or the identity",
    "NO_PROPOSAL_CHOSEN": "the peer has none of the IKE or ESP policies",
    "no acceptable proposal found": "none of the peer's IKE or ESP policies is this connection's",
    "TS_UNACCEPTABLE": "the peer does not have these networks",
    "INVALID_ID_INFORMATION": "the peer does not have these networks",
}


@dataclass(frozen=True)
class Condition:
    """How a connection is, and why when it is not connected."""

    state: Literal["Connecting", "Connected", "Disconnected", "Error"]
    detail: str = ""


@dataclass
class _Tried:
    """What is known of a connection by its name."""

    connection: SiteConnection
    #: time.monotonic() from which it may be called, and the pause after that
    due: float
    pause: float = FIRST_PAUSE
    was_up: bool = False
    refusal: str = ""
    silence: str = ""
    condition: Condition = Condition("Connecting")


@dataclass
class Watch:
    """The watch over one charon. ``see`` tells it what there should be."""

    socket: Path
    _tried: dict[str, _Tried] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _ended: threading.Event = field(default_factory=threading.Event)

    def start(self) -> None:
        threading.Thread(target=self._run, name="vpn-watch", daemon=True).start()

    def stop(self) -> None:
        self._ended.set()

    def see(self, connections: tuple[SiteConnection, ...]) -> None:
        """Watch over these, loaded by now; a connection that changed begins anew."""
        with self._lock:
            now, known = time.monotonic(), self._tried
            self._tried = {
                name(one): known.get(name(one))
                or _Tried(one, now + (YIELD if one.local > one.peer else 0.0), condition=_start(one))
                for one in connections
            }

    def again(self, id: str) -> None:
        """Forget what is known of a connection, whose secret changed."""
        with self._lock:
            for key, tried in self._tried.items():
                if identity(key) == id:
                    self._tried[key] = _Tried(tried.connection, time.monotonic(), condition=_start(tried.connection))

    def conditions(self) -> dict[str, Condition]:
        """By the connections' ids."""
        with self._lock:
            return {identity(key): tried.condition for key, tried in self._tried.items()}

    # ---- the thread

    def _run(self) -> None:
        while not self._ended.is_set():
            try:
                with session(self.socket) as events, charon(self.socket) as commands:
                    self._look(commands)
                    with contextlib.closing(events.listen(_EVENTS, INTERVAL)) as listening:
                        self._follow(listening, commands)
            except OSError:
                self._lost()
            except Exception:
                log.exception("watching the VPN connections")
            self._ended.wait(INTERVAL)

    def _follow(self, events: Iterable[tuple[bytes | None, dict[str, Any]]], commands: Charon) -> None:
        """Until the end: hear what the log says, and look after everything else, silence included.

        Anybody who sends to port 500 fills the log, so that there may be no silence.
        """
        looked = time.monotonic()
        for label, event in events:
            if self._ended.is_set():
                return
            if label == b"log":
                self._hear(event)
                if time.monotonic() < looked + INTERVAL:
                    continue
            self._look(commands)
            looked = time.monotonic()

    def _lost(self) -> None:
        """charon is gone, and its tunnels with it."""
        with self._lock:
            for tried in self._tried.values():
                _judge(tried, frozenset(), talking=False)

    def _hear(self, event: dict[str, Any]) -> None:
        """Keep what a line of charon's log says of a connection that does not come up."""
        key, text = event.get("ikesa-name", b"").decode(), event.get("msg", b"").decode(errors="replace")
        with self._lock:
            if caller := _CALLER.search(text):
                self._meet(*caller.groups())
                return
            tried = self._tried.get(key)
            if tried is None or tried.condition.state == "Connected":
                return
            if found := _REFUSALS.search(text):
                told = found[1] or found[2]
                tried.refusal = f"{_MEANING[told]} ({told})" if told in _MEANING else told
            elif _SILENCE.search(text):
                tried.refusal, tried.silence = "", f"{tried.connection.peer} does not answer"

    def _meet(self, local: str, peer: str, name: str) -> None:
        """A peer says who it is; one that is not who it should be is let in nowhere."""
        for tried in self._tried.values():
            one = tried.connection
            if (str(one.local), str(one.peer)) == (local, peer) and tried.condition.state != "Connected":
                expected = one.peer_id or peer
                if name != expected:
                    tried.refusal = f"the peer calls itself {name[:255]}, not {expected}"

    def _look(self, commands: Charon) -> None:
        tunnels: dict[str, list[Tunnel]] = {}
        for tunnel in commands.tunnels():
            tunnels.setdefault(tunnel.connection, []).append(tunnel)
        now, calls = time.monotonic(), []
        with self._lock:
            for key, tried in self._tried.items():
                mine = tunnels.get(key, [])
                up = frozenset[str]().union(*(one.installed for one in mine))
                half_open = any(not one.established for one in mine)
                _judge(tried, up, talking=half_open)
                missing = [child for child in children(tried.connection) if child not in up]
                if not missing:
                    tried.pause, tried.due = FIRST_PAUSE, now
                elif not tried.connection.passive and not half_open and now >= tried.due:
                    tried.due, tried.pause = now + tried.pause, min(LONGEST_PAUSE, 2 * tried.pause)
                    calls += missing
        for child in calls:
            # taken out of the document just now
            with contextlib.suppress(RefusedError):
                commands.initiate(child)


def _start(connection: SiteConnection) -> Condition:
    return Condition("Disconnected", "waits for the peer") if connection.passive else Condition("Connecting")


def _judge(tried: _Tried, up: frozenset[str], *, talking: bool) -> None:
    wanted = children(tried.connection)
    count = sum(child in up for child in wanted)
    if count == len(wanted):
        tried.was_up, tried.refusal, tried.silence = True, "", ""
        tried.condition = Condition("Connected")
    elif tried.refusal:
        tried.condition = Condition("Error", tried.refusal)
    elif count or talking or not (tried.was_up or tried.connection.passive):
        detail = f"{count} of {len(wanted)} pairs of networks" if count else tried.silence
        lost = tried.was_up and not count
        tried.condition = Condition("Disconnected" if lost else "Connecting", detail)
    else:
        tried.condition = Condition("Disconnected", tried.silence or _start(tried.connection).detail)
