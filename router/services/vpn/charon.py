"""Talking to charon: one vici session for a handful of commands."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from router.services.vpn.connections import Message

#: seconds that charon may take for an answer
ANSWER = 5.0


@dataclass(frozen=True)
class Tunnel:
    """An IKE security association. ``installed`` are the names of the children that carry traffic."""

    connection: str
    unique: str
    established: bool
    installed: frozenset[str]
    #: of all children, with those replaced by now
    bytes_in: int
    bytes_out: int


class Charon:
    """Commands of vici; every one raises OSError when charon does not answer, RefusedError when it says no."""

    def __init__(self, session: Any) -> None:
        self._session = session

    def connections(self) -> set[str]:
        """Names of the loaded connections."""
        return {entry.decode() for entry in self._session.get_conns().get("conns", [])}

    def load(self, connection: Message) -> None:
        self._refusable("load-conn", connection)

    def load_secret(self, secret: Message) -> None:
        self._refusable("load-shared", secret)

    def unload(self, connection: str) -> None:
        """Forget a connection and end its tunnels, without waiting for the peer."""
        self._refusable("unload-conn", {"name": connection})
        self.terminate(connection)

    def terminate(self, connection: str) -> None:
        """End the tunnels of a connection, telling the peer, but not waiting for it."""
        deadline = time.monotonic() + ANSWER
        while tunnels := [one for one in self.tunnels() if one.connection == connection]:
            if time.monotonic() > deadline:
                raise RefusedError(f"charon does not end the tunnels of {connection}")
            for tunnel in tunnels:
                self.end(tunnel.unique)

    def end(self, unique: str) -> None:
        """End the association of this number; it may have ended by itself."""
        with suppress(_vici_errors()):
            # a peer that does not answer is given 0 s: it is told, and gone
            list(self._session.terminate({"ike-id": unique, "force": "yes", "timeout": "-1"}))

    def secrets(self) -> set[str]:
        """Ids of the loaded shared secrets."""
        return {entry.decode() for entry in self._session.get_shared().get("keys", [])}

    def unload_secret(self, id: str) -> None:
        self._refusable("unload-shared", {"id": id})

    def initiate(self, child: str) -> None:
        """Begin to set up a child; returns at once."""
        try:
            list(self._session.initiate({"child": child, "timeout": "-1", "init-limits": "no"}))
        except _vici_errors() as error:
            raise RefusedError(f"charon refuses to call {child}: {error}") from error

    def tunnels(self) -> list[Tunnel]:
        """What there is now, half-open ones included."""
        return [_tunnel(name, values) for name, values in self.associations()]

    def associations(self) -> list[tuple[str, dict[str, Any]]]:
        """Connection and charon's own description of each IKE security association (its vici's ``list-sa``)."""
        return [pair for entry in self._session.list_sas() for pair in entry.items()]

    def pools(self) -> set[str]:
        """Names of the pools of addresses."""
        return set(self._session.get_pools())

    def load_pool(self, pool: Message) -> None:
        self._refusable("load-pool", pool)

    def unload_pool(self, name: str) -> None:
        self._refusable("unload-pool", {"name": name})

    def keys(self) -> set[str]:
        """Ids of the loaded private keys."""
        return {entry.decode() for entry in self._session.get_keys().get("keys", [])}

    def load_key(self, pem: str) -> str:
        """Load a private key; its id."""
        id: bytes = self._refusable("load-key", {"type": "any", "data": pem})["id"]
        return id.decode()

    def unload_key(self, id: str) -> None:
        self._refusable("unload-key", {"id": id})

    def load_authority(self, pem: str) -> None:
        """Load the certificate of an authority."""
        self._refusable("load-cert", {"type": "X509", "flag": "CA", "data": pem})

    def _refusable(self, command: str, message: Message) -> dict[str, Any]:
        try:
            answer: dict[str, Any] = self._session.request(command, message)
        except _vici_errors() as error:
            raise RefusedError(f"charon refuses {command}: {error}") from error
        return answer


class RefusedError(Exception):
    """charon would not do it, and why."""


def _vici_errors() -> type[Exception]:
    from vici.exception import CommandException

    found: type[Exception] = CommandException
    return found


def _tunnel(name: str, values: dict[str, Any]) -> Tunnel:
    # of an IKEv1 association more than one may be installed while the old one runs out
    kids = list(values.get("child-sas", {}).values())
    return Tunnel(
        name,
        values["uniqueid"].decode(),
        values["state"] == b"ESTABLISHED",
        frozenset(kid["name"].decode() for kid in kids if kid["state"] in (b"INSTALLED", b"REKEYING", b"REKEYED")),
        sum(int(kid.get("bytes-in", 0)) for kid in kids),
        sum(int(kid.get("bytes-out", 0)) for kid in kids),
    )


@contextmanager
def session(path: Path, timeout: float = ANSWER) -> Iterator[Any]:
    """A vici session with the charon that listens at ``path``. Raises OSError."""
    # a late import: most routers have no VPN
    from vici import Session

    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(timeout)
        connection.connect(str(path))
        yield Session(connection)


@contextmanager
def charon(path: Path) -> Iterator[Charon]:
    """charon at ``path``. Raises OSError."""
    with session(path) as opened:
        yield Charon(opened)
