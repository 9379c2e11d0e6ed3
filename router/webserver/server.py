"""The web server that guests fetch small things from. An ``Application`` answers; SIGHUP rereads its configuration.

The configuration is a JSON file: ``listen`` (addresses), ``port``, and what the application reads of it.

One thread around epoll. A guest's connection is held only while something is missing: most are accepted with their
request there (TCP_DEFER_ACCEPT), answered and closed in one go. Guests may be strangers to each other: one that is
slow, or has many connections, keeps no other waiting.
"""

from __future__ import annotations

import json
import os
import resource
import select
import signal
import socket
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from router.webserver import http
from router.webserver.http import BadRequestError, Request, Response

#: connections that are held at the same time, in all and of one guest; further ones are answered if that is possible
#: at once, and closed
MOST_HELD = 2048
MOST_HELD_BY_ONE = 32
#: seconds for a whole request to arrive, also for the next one on a kept connection
PATIENCE = 5.0
#: seconds within which a client must take up something of an answer, and all of it
STALL, LONGEST_ANSWER = 5.0, 60.0
#: connections that are taken before others get their turn
TURN = 64
BACKLOG = 4096
#: <linux/in.h>: bind to an address that is not there yet, as on a standby router
IP_FREEBIND = 15


class Application(Protocol):
    """What is served."""

    #: begins the lines it logs
    name: str
    #: requests on one connection
    most_requests: int

    def configure(self, config: Mapping[str, Any]) -> None:
        """Follow the configuration, also a changed one. Raises OSError, KeyError and ValueError."""

    def answer(self, request: Request, address: str) -> Response:
        """The answer to the guest at ``address``. OSError and ValueError become status 500."""

    def refuse(self, status: int) -> Response:
        """The answer to what is no request, or could not be answered."""


class Connection:
    """One client's connection. ``deadline`` is when it is closed if nothing happens (monotonic clock)."""

    __slots__ = ("address", "answer_by", "closing", "deadline", "held", "requests", "sock", "unread", "unsent")

    def __init__(self, sock: socket.socket, address: str, now: float) -> None:
        self.sock, self.address = sock, address
        self.unread = b""
        #: what the client has not taken yet of the answer
        self.unsent: list[memoryview] = []
        self.requests = 0
        #: no further request is answered
        self.closing = False
        #: what epoll waits for, 0 when it does not
        self.held = 0
        self.deadline = now + PATIENCE
        self.answer_by = 0.0


class Server:
    """Serves by the file ``config``, holding at most ``most_held`` connections at the same time."""

    def __init__(self, application: Application, config: Path, most_held: int = MOST_HELD) -> None:
        self._application, self._config, self._most_held = application, config, most_held
        self._epoll = select.epoll()
        self._listeners: dict[int, tuple[tuple[str, int], socket.socket]] = {}
        self._held: dict[int, Connection] = {}
        self._held_by: Counter[str] = Counter()
        self._stopping = False
        self.reload()

    # ---- configuration

    def reload(self) -> None:
        """Follow the file: open and close listening sockets; connections live on. Raises OSError and ValueError."""
        config = json.loads(self._config.read_text())
        self._application.configure(config)
        wanted = {(address, config["port"]) for address in config["listen"]}
        for number, (where, sock) in list(self._listeners.items()):
            if where not in wanted:
                self._epoll.unregister(number)
                sock.close()
                del self._listeners[number]
        for where in wanted - {where for where, _ in self._listeners.values()}:
            sock = _listen(where)
            self._listeners[sock.fileno()] = (where, sock)
            self._epoll.register(sock.fileno(), select.EPOLLIN)

    def stop(self) -> None:
        """Take no new connections; ``run`` returns when the ones there are have ended."""
        self._stopping = True
        for number, (_, sock) in self._listeners.items():
            self._epoll.unregister(number)
            sock.close()
        self._listeners.clear()

    def _log(self, text: str) -> None:
        print(f"{self._application.name}: {text}", file=sys.stderr, flush=True)

    # ---- the loop

    def run(self, wakeup: socket.socket) -> None:
        """Serve until stopped. ``wakeup`` is what signal.set_wakeup_fd writes to."""
        self._epoll.register(wakeup.fileno(), select.EPOLLIN)
        next_look = 0.0
        while not self._stopping or self._held:
            for number, _ in self._epoll.poll(1.0 if self._held else -1):
                if number in self._listeners:
                    self._accept(self._listeners[number][1])
                elif number == wakeup.fileno():
                    self._signals(wakeup.recv(64))
                elif (connection := self._held.get(number)) is not None:
                    self._serve(connection)
            if (now := time.monotonic()) >= next_look:
                next_look = now + 0.5
                for connection in [late for late in self._held.values() if now >= late.deadline]:
                    self._close(connection)

    def _signals(self, numbers: bytes) -> None:
        if signal.SIGTERM in numbers:
            self.stop()
        elif signal.SIGHUP in numbers:
            try:
                self.reload()
            except (OSError, KeyError, ValueError) as error:
                self._log(f"kept the old configuration: {error}")

    def _accept(self, listener: socket.socket) -> None:
        now = time.monotonic()
        for _ in range(TURN):
            try:
                sock, (address, _) = listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                # a client that is gone already, or no file descriptors left
                self._log(f"accept: {error}")
                return
            self._serve(Connection(sock, address, now))

    # ---- one connection

    def _serve(self, connection: Connection) -> None:
        """Go on with a connection as far as possible without waiting."""
        try:
            if not connection.unsent:
                self._read(connection)
                return
            self._send(connection)
            if not connection.unsent:
                # requests that arrived meanwhile
                self._answer(connection)
        except OSError:
            # the client is gone; RST and time-out are its affair
            self._close(connection)

    def _read(self, connection: Connection) -> None:
        try:
            data = connection.sock.recv(http.MOST_HEAD, socket.MSG_DONTWAIT)
        except BlockingIOError:
            self._hold(connection, select.EPOLLIN)
            return
        if not data:
            self._close(connection)
            return
        if connection.closing:
            # what comes after the last request is read and dropped, lest closing resets the answer away
            self._hold(connection, select.EPOLLIN)
            return
        connection.unread += data
        self._answer(connection)

    def _answer(self, connection: Connection) -> None:
        """Answer the requests that have arrived, one after the other, as long as the client takes the answers."""
        while not connection.unsent and not connection.closing:
            head, found, rest = connection.unread.partition(http.END)
            if not found:
                if len(head) < http.MOST_HEAD:
                    self._hold(connection, select.EPOLLIN)
                    return
                self._respond(connection, self._application.refuse(431), keep_alive=False)
            else:
                connection.unread = rest
                try:
                    request = http.parse(head)
                except BadRequestError as error:
                    self._respond(connection, self._application.refuse(error.status), keep_alive=False)
                else:
                    self._request(connection, request)
        if not connection.unsent and connection.closing:
            self._finish(connection)

    def _request(self, connection: Connection, request: Request) -> None:
        connection.requests += 1
        keep_alive = (
            request.keep_alive
            and connection.requests < self._application.most_requests
            and not self._stopping
            and (connection.held or self._may_hold(connection.address))
        )
        try:
            response = self._application.answer(request, connection.address)
        except (OSError, ValueError) as error:
            self._log(f"{connection.address}: {error}")
            response = self._application.refuse(500)
        if response.hops is not None:
            connection.sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, response.hops)
        self._respond(connection, response, keep_alive=bool(keep_alive), body=request.method != "HEAD")

    def _respond(self, connection: Connection, response: Response, *, keep_alive: bool, body: bool = True) -> None:
        connection.closing = not keep_alive
        parts = [http.head(response, keep_alive=keep_alive)]
        if body and response.body:
            parts.append(response.body)
        connection.unsent = [memoryview(part) for part in parts]
        now = time.monotonic()
        connection.answer_by = now + LONGEST_ANSWER
        connection.deadline = now + STALL
        self._send(connection)

    def _send(self, connection: Connection) -> None:
        try:
            sent = connection.sock.sendmsg(connection.unsent, (), socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        except BlockingIOError:
            sent = 0
        unsent = connection.unsent
        while unsent and sent >= len(unsent[0]):
            sent -= len(unsent.pop(0))
        now = time.monotonic()
        if unsent:
            unsent[0] = unsent[0][sent:]
            if sent:
                connection.deadline = min(now + STALL, connection.answer_by)
            self._hold(connection, select.EPOLLOUT)
        else:
            connection.deadline = now + PATIENCE

    def _finish(self, connection: Connection) -> None:
        """The last answer has been taken by the kernel: end the connection without cutting that answer off."""
        if connection.unread or connection.held:
            connection.sock.shutdown(socket.SHUT_WR)
            connection.deadline = time.monotonic() + 1.0
            self._hold(connection, select.EPOLLIN)
        else:
            self._close(connection)

    # ---- which connections are held

    def _may_hold(self, address: str) -> bool:
        return self._held_by[address] < MOST_HELD_BY_ONE and len(self._held) < self._most_held

    def _hold(self, connection: Connection, events: int) -> None:
        """Wait for ``events``; close the connection instead when its guest, or all of them, have too many."""
        number = connection.sock.fileno()
        if connection.held == events:
            return
        if connection.held:
            self._epoll.modify(number, events)
        else:
            if not self._may_hold(connection.address):
                self._close(connection)
                return
            self._epoll.register(number, events)
            self._held[number] = connection
            self._held_by[connection.address] += 1
        connection.held = events

    def _close(self, connection: Connection) -> None:
        if connection.held:
            number = connection.sock.fileno()
            self._epoll.unregister(number)
            del self._held[number]
            self._held_by[connection.address] -= 1
            if not self._held_by[connection.address]:
                del self._held_by[connection.address]
            connection.held = 0
        connection.sock.close()


def _listen(where: tuple[str, int]) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.setsockopt(socket.IPPROTO_IP, IP_FREEBIND, 1)
    # inherited by the accepted ones
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, int(PATIENCE))
    try:
        sock.bind(where)
        sock.listen(BACKLOG)
    except OSError:
        sock.close()
        raise
    return sock


def serve(application: Application, arguments: Sequence[str]) -> int:
    """Serve by the file that is the one argument, until SIGTERM; the exit status."""
    (config,) = arguments
    # what is held, and some files beside
    spare = 2 * TURN
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = min(most, MOST_HELD + spare)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, most))
    wakeup, signalled = socket.socketpair()
    wakeup.setblocking(False)
    signalled.setblocking(False)
    signal.set_wakeup_fd(signalled.fileno())
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    server = Server(application, Path(config), files - spare)
    print(f"{application.name}: serving, process {os.getpid()}", file=sys.stderr, flush=True)
    server.run(wakeup)
    return 0
