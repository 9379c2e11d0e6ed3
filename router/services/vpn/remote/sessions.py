"""Who is connected by remote access: seen in charon's associations and in the notes of pppd's, told with a log.

charon says when something changes, so that a session which begins and ends between two reports is in the log.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from router.services.vpn.charon import charon, session
from router.services.vpn.remote.ike import is_ours, place

log = logging.getLogger(__name__)

_EVENTS = ("ike-updown", "child-updown")
#: seconds between two looks when charon says nothing
INTERVAL = 0.5
#: seconds that pppd's may take to say goodbye to their clients
GOODBYE = 2.0
#: entries of an address's log
LOG_LENGTH = 200


@dataclass(frozen=True)
class Session:
    """A client that is connected. ``handle``: charon's number of the association, or pppd's process id."""

    address: str
    protocol: Literal["ikev2", "l2tp"]
    user: str
    #: the client's address inside, and where it is
    client: str
    peer: str
    since: datetime = field(compare=False)
    handle: str = field(compare=False)


def ikev2_sessions(associations: Iterable[tuple[str, dict[str, Any]]], now: datetime) -> Iterator[Session]:
    """The sessions among charon's associations (as ``list-sas`` and its events have them)."""
    for key, values in associations:
        if not is_ours(key) or "remote-eap-id" not in values or not values.get("remote-vips"):
            continue
        address, protocol = place(key)
        if protocol == "ikev2" and values["state"] in (b"ESTABLISHED", b"REKEYING", b"REKEYED"):
            yield Session(
                address,
                "ikev2",
                values["remote-eap-id"].decode(errors="replace"),
                values["remote-vips"][0].decode(),
                values["remote-host"].decode(),
                now - timedelta(seconds=int(values.get("established", 0))),
                values["uniqueid"].decode(),
            )


def l2tp_sessions(notes: Path, peer_of: Callable[[str, str], str]) -> Iterator[Session]:
    """The sessions that pppd's have noted down: one file each, named by the process id.

    A file has the public address, the user and the client's address inside, a line each. ``peer_of`` tells by public
    address and process id where the client is.
    """
    for path in sorted(notes.glob("[0-9]*")):
        with contextlib.suppress(OSError, ValueError):  # it ended just now
            address, user, client = path.read_text().split()
            since = datetime.fromtimestamp(path.stat().st_mtime, UTC)
            yield Session(address, "l2tp", user, client, peer_of(address, path.name), since, path.name)


@dataclass
class Sessions:
    """The watch over the sessions of one router.

    ``notes``: directory of pppd's notes. ``peer_of``: where the client of a pppd is, asked once for each.
    """

    socket: Path
    notes: Path
    peer_of: Callable[[str, str], str]
    _peers: dict[str, str] = field(default_factory=dict)
    _now: dict[Session, Session] = field(default_factory=dict)
    _logs: dict[str, deque[dict[str, Any]]] = field(default_factory=dict)
    # numbers rise over restarts of the agent too
    _number: int = field(default_factory=lambda: time.time_ns() // 1_000_000)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _ended: threading.Event = field(default_factory=threading.Event)

    def start(self) -> None:
        threading.Thread(target=self._run, name="vpn-sessions", daemon=True).start()

    def stop(self) -> None:
        self._ended.set()

    def report(self, address: str) -> dict[str, Any]:
        """Sessions and log of one public address."""
        with self._lock:
            return {
                "sessions": [
                    {**_told(one), "since": _moment(one.since)}
                    for one in sorted(self._now.values(), key=lambda one: one.since)
                    if one.address == address
                ],
                "log": list(self._logs.get(address, ())),
            }

    def now(self) -> list[Session]:
        """Those of the last look."""
        with self._lock:
            return list(self._now.values())

    def look(self) -> list[Session]:
        """What there is now, noted down. Raises OSError when charon does not answer."""
        with charon(self.socket) as daemon:
            found = [*ikev2_sessions(daemon.associations(), datetime.now(UTC)), *self._of_pppd()]
        self.see(found)
        return found

    def see(self, found: Iterable[Session]) -> None:
        """These are all that there are."""
        with self._lock:
            there = {one: one for one in found}
            for gone in self._now.keys() - there.keys():
                self._note("disconnect", self._now.pop(gone))
            for key, one in there.items():
                if key not in self._now:
                    self._note("connect", one)
                    self._now[key] = one
                elif key.handle != self._now[key].handle:
                    # another association by the same client: its keys were renewed
                    self._now[key] = Session(**{**vars(one), "since": self._now[key].since})

    def _note(self, event: str, one: Session) -> None:
        self._number += 1
        entries = self._logs.setdefault(one.address, deque(maxlen=LOG_LENGTH))
        entries.append({"number": self._number, "event": event, **_told(one), "at": _moment(datetime.now(UTC))})

    def _of_pppd(self) -> list[Session]:
        """Sessions by L2TP; the note of one whose pppd is gone is removed when it has been seen."""
        alive = []
        for one in l2tp_sessions(self.notes, self._peer_of):
            if _is_pppd(one.handle):
                alive.append(one)
            else:
                self._passed(one)
                self._peers.pop(one.handle, None)
                (self.notes / one.handle).unlink(missing_ok=True)
        return alive

    def _peer_of(self, address: str, pid: str) -> str:
        if pid not in self._peers:
            self._peers[pid] = self.peer_of(address, pid)
        return self._peers[pid]

    def _passed(self, one: Session) -> None:
        """A session that is known to have been, whether it was seen or not."""
        with self._lock:
            if one not in self._now:
                self._note("connect", one)
                self._now[one] = one

    # ---- the thread

    def _run(self) -> None:
        while not self._ended.is_set():
            try:
                with session(self.socket) as events:
                    self.look()
                    with contextlib.closing(events.listen(_EVENTS, INTERVAL)) as listening:
                        for label, event in listening:
                            if self._ended.is_set():
                                return
                            if label == b"child-updown" and event.get("up") == b"yes":
                                associations = ((key, value) for key, value in event.items() if isinstance(value, dict))
                                for one in ikev2_sessions(associations, datetime.now(UTC)):
                                    self._passed(one)
                            self.look()
            except OSError:
                self.see(self._of_pppd())
            except Exception:
                log.exception("watching the sessions of remote access")
            self._ended.wait(INTERVAL)


def end(sessions: Iterable[Session], socket: Path) -> None:
    """End sessions: pppd says goodbye to its client, charon to its. Raises OSError."""
    ours = list(sessions)
    for one in ours:
        # its number may be another's by now
        if one.protocol == "l2tp" and _is_pppd(one.handle):
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(one.handle), signal.SIGTERM)
    numbers = [one.handle for one in ours if one.protocol == "ikev2"]
    if numbers:
        with charon(socket) as daemon:
            for number in numbers:
                daemon.end(number)


def await_end(sessions: Collection[Session]) -> None:
    """Return when the pppd's of these sessions of L2TP have ended, or after GOODBYE."""
    deadline = time.monotonic() + GOODBYE
    while any(_is_pppd(one.handle) for one in sessions) and time.monotonic() < deadline:
        time.sleep(0.02)


def _is_pppd(pid: str) -> bool:
    try:
        return Path("/proc", pid, "comm").read_text() == "pppd\n"
    except OSError:
        return False


def _told(one: Session) -> dict[str, str]:
    return {"user": one.user, "protocol": one.protocol, "client": one.client, "peer": one.peer}


def _moment(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")
