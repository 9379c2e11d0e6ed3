"""HTTPS/1.1 with client certificates, that strangers cannot hold up.

One thread accepts and shakes hands with everyone at once, without blocking; only a peer that has shown the control
plane's certificate gets a thread of its own and has its HTTP read (RFC 9112, by h11).
"""

from __future__ import annotations

import contextlib
import logging
import selectors
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import h11

log = logging.getLogger(__name__)

#: connections that may shake hands at once, and how long each may take in seconds; a newer one ousts the oldest
HANDSHAKES, HANDSHAKE_DEADLINE = 64, 5.0
#: connections of the control plane at once
CONNECTIONS = 32
#: seconds that a connection may be idle, and that a request may take to arrive
IDLE, ARRIVAL = 300.0, 60.0
BODY_LIMIT = 64 << 20
#: seconds for the rest of a refused request
DRAIN = 1.0


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    #: names in lower case
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass(frozen=True)
class Response:
    status: int
    body: bytes = b""
    content_type: str = "application/json"


_TOO_LONG = Response(413, f"at most {BODY_LIMIT} bytes\n".encode(), "text/plain")


class _RefusedError(Exception):
    def __init__(self, response: Response) -> None:
        self.response = response


class Server:
    """Serves ``handle`` on ``listener``. ``context`` is asked for each connection; ``admit`` judges the peer."""

    def __init__(
        self,
        listener: socket.socket,
        context: Callable[[], ssl.SSLContext],
        admit: Callable[[dict[str, object] | None], bool],
        handle: Callable[[Request], Response],
    ) -> None:
        listener.setblocking(False)
        self._listener, self._context, self._admit, self._handle = listener, context, admit, handle
        self._selector = selectors.DefaultSelector()
        self._selector.register(listener, selectors.EVENT_READ)
        #: connections that shake hands, oldest first, each with its deadline
        self._strangers: dict[ssl.SSLSocket, float] = {}
        self._slots = threading.BoundedSemaphore(CONNECTIONS)

    def run(self) -> None:
        """Accept connections for ever."""
        while True:
            next_deadline = min(self._strangers.values(), default=None)
            timeout = None if next_deadline is None else max(0.0, next_deadline - time.monotonic())
            for key, _ in self._selector.select(timeout):
                if key.fileobj is self._listener:
                    self._accept()
                elif key.fileobj in self._strangers:
                    self._shake_hands(key.fileobj)
            now = time.monotonic()
            for sock in [sock for sock, deadline in self._strangers.items() if deadline <= now]:
                self._drop(sock)

    def _accept(self) -> None:
        try:
            raw, _ = self._listener.accept()
        except OSError as error:
            if not isinstance(error, BlockingIOError | ConnectionError):
                log.error("accepting connections: %s", error)  # out of file descriptors, most likely
                time.sleep(0.1)
            return
        try:
            raw.setblocking(False)
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            sock = self._context().wrap_socket(raw, server_side=True, do_handshake_on_connect=False)
        except OSError:
            raw.close()
            return
        if len(self._strangers) >= HANDSHAKES:
            self._drop(next(iter(self._strangers)))
        self._strangers[sock] = time.monotonic() + HANDSHAKE_DEADLINE
        self._selector.register(sock, selectors.EVENT_READ)
        self._shake_hands(sock)

    def _shake_hands(self, sock: ssl.SSLSocket) -> None:
        try:
            sock.do_handshake()
            admitted = self._admit(sock.getpeercert())  # type: ignore[arg-type]
        except ssl.SSLWantReadError:
            self._selector.modify(sock, selectors.EVENT_READ)
        except ssl.SSLWantWriteError:
            self._selector.modify(sock, selectors.EVENT_WRITE)
        except (OSError, ValueError):
            self._drop(sock)
        else:
            if not admitted:
                with contextlib.suppress(OSError):
                    sock.send(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            if not admitted or not self._slots.acquire(blocking=False):
                self._drop(sock)
                return
            del self._strangers[sock]
            self._selector.unregister(sock)
            threading.Thread(target=self._converse, args=(sock,), name="client", daemon=True).start()

    def _drop(self, sock: ssl.SSLSocket) -> None:
        del self._strangers[sock]
        self._selector.unregister(sock)
        sock.close()

    def _converse(self, sock: ssl.SSLSocket) -> None:
        """Answer one connection's requests until it closes."""
        try:
            connection = h11.Connection(h11.SERVER)
            while (request := _receive(connection, sock)) is not None:
                _answer(connection, sock, self._respond(request))
                if connection.our_state is not h11.DONE or connection.their_state is not h11.DONE:
                    break
                connection.start_next_cycle()
        except _RefusedError as refused:
            with contextlib.suppress(OSError, h11.ProtocolError):
                _answer(connection, sock, refused.response, close=True)
                _drain(sock)
        except (OSError, h11.ProtocolError) as error:
            log.debug("connection ended: %s", error)
        finally:
            with contextlib.suppress(OSError):
                sock.close()
            self._slots.release()

    def _respond(self, request: Request) -> Response:
        try:
            return self._handle(request)
        except Exception:
            log.exception("%s %s", request.method, request.path)
            return Response(500, b"internal error; see the agent's log\n", "text/plain")


def _receive(connection: h11.Connection, sock: ssl.SSLSocket) -> Request | None:
    """The next request, None when the client is done. Raises _RefusedError, OSError and h11.ProtocolError."""
    sock.settimeout(IDLE)
    deadline = None
    head: h11.Request | None = None
    body = bytearray()
    while True:
        try:
            event = connection.next_event()
        except h11.RemoteProtocolError as error:
            raise _RefusedError(Response(error.error_status_hint, f"{error}\n".encode(), "text/plain")) from error
        if event is h11.NEED_DATA:
            if connection.they_are_waiting_for_100_continue:
                sock.sendall(connection.send(h11.InformationalResponse(status_code=100, headers=[])) or b"")
            if deadline is not None:
                sock.settimeout(max(0.01, deadline - time.monotonic()))
            connection.receive_data(sock.recv(1 << 16))
            deadline = deadline or time.monotonic() + ARRIVAL
        elif isinstance(event, h11.Request):
            head = event
            if any(name == b"content-length" and int(value) > BODY_LIMIT for name, value in head.headers):
                raise _RefusedError(_TOO_LONG)
        elif isinstance(event, h11.Data):
            body += event.data
            if len(body) > BODY_LIMIT:
                raise _RefusedError(_TOO_LONG)
        elif isinstance(event, h11.EndOfMessage) and head is not None:
            headers = {name.decode(): value.decode("latin-1") for name, value in head.headers}
            path = head.target.decode("latin-1").partition("?")[0]
            return Request(head.method.decode(), path, headers, bytes(body))
        else:
            return None


def _answer(connection: h11.Connection, sock: ssl.SSLSocket, response: Response, *, close: bool = False) -> None:
    headers = [("Content-Type", response.content_type), ("Content-Length", str(len(response.body)))]
    if close:
        headers.append(("Connection", "close"))
    parts = (
        connection.send(h11.Response(status_code=response.status, headers=headers)),
        connection.send(h11.Data(data=response.body)),
        connection.send(h11.EndOfMessage()),
    )
    sock.settimeout(ARRIVAL)
    sock.sendall(b"".join(part or b"" for part in parts))


def _drain(sock: ssl.SSLSocket) -> None:
    """Let the rest of a refused request arrive: closing at once may reset the answer away (RFC 9112, section 9.6)."""
    sock.shutdown(socket.SHUT_WR)
    deadline = time.monotonic() + DRAIN
    while (left := deadline - time.monotonic()) > 0:
        sock.settimeout(left)
        if not sock.recv(1 << 16):
            return
