"""One connection of a session: a browser's WebSocket on one side, a VNC server on the other.

Both sides are protocols that write straight to the other's transport. When one cannot take more, the other is not
read: what a stalled browser or server costs is bounded by the two write buffers.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any, Protocol

from consoleproxy.rfb.client import ClientMessages
from consoleproxy.rfb.errors import RfbError
from consoleproxy.rfb.greeting import VERSION, Greeting, refusal
from consoleproxy.services.console.relay import frames

log = logging.getLogger(__name__)

#: octets that wait to be sent, from which on the other side is not read any more, and down to which it is not
HIGH_WATER, LOW_WATER = 131_072, 32_768
#: octets from which on a copy costs more than a TLS record of its own for a frame's header
COPIED = 8192
#: seconds that the browser has to take its farewell
FAREWELL = 5.0

#: what a filter of the server's stream does: octets in, octets out; raises RfbError
Filter = Callable[[bytes], bytes]


class Watcher(Protocol):
    """Sees the screen as the browser does."""

    def watch(self, data: bytes) -> None: ...

    def end(self) -> None: ...


class Server(Protocol):
    """Where a link's screen comes from."""

    transport: Any

    def data_received(self, data: bytes) -> None: ...

    def pause(self) -> None: ...

    def resume(self) -> None: ...

    def drop(self) -> None:
        """Nobody watches any more."""


class Link(asyncio.Protocol):
    """The browser's side; ``server`` is the other, once it is there.

    ``ended`` is called once, with this link and the reason, when the browser's connection is gone.
    """

    __slots__ = (
        "_closing", "_ended", "_frames", "_full", "_greeting", "_secure", "_waiting", "began", "client", "greeted",
        "last_input", "messages", "reason", "received", "sent", "server", "shared", "transport",
    )  # fmt: skip

    def __init__(self, client: str, messages: ClientMessages, ended: Callable[[Link, str], None]) -> None:
        self.client, self.messages, self._ended = client, messages, ended
        self.transport: Any = None
        self.server: Server | None = None
        self._frames = frames.Frames()
        self._greeting: Greeting | None = Greeting()
        #: set when the browser has finished its part of the handshake
        self.greeted: asyncio.Future[bool] | None = asyncio.get_running_loop().create_future()
        self._secure = False
        self._closing = False
        #: the browser does not take what is sent
        self._full = False
        #: what the browser sent right behind its handshake, for the server that is not there yet
        self._waiting = b""
        self.reason = ""
        self.began = time.time()
        self.last_input = time.monotonic()
        #: octets of the screen to the browser, and of its messages from it
        self.sent = self.received = 0

    # ---- to the browser

    def adopt(self, transport: Any) -> None:
        """Take the browser's connection, on which the 101 has been written."""
        self.transport = transport
        self._secure = transport.get_extra_info("sslcontext") is not None
        transport.set_write_buffer_limits(HIGH_WATER, LOW_WATER)
        transport.set_protocol(self)

    def greet(self) -> None:
        """Begin RFB with the browser; ``greeted`` says when it has ended."""
        self.deliver(VERSION)

    def deliver(self, data: bytes) -> None:
        size = len(data)
        self.sent += size
        if self._secure and size < COPIED:
            # one TLS record rather than two
            self.transport.write(frames.header(size) + data)
        else:
            self.transport.writelines((frames.header(size), data))

    def refuse(self, text: str, code: int, reason: str) -> None:
        """Tell the browser in RFB that there is no screen, and close."""
        if not self._closing:
            self.deliver(VERSION)
            self.deliver(refusal(text))
        self.close(code, reason)

    def close(self, code: int, reason: str) -> None:
        """Close both sides; the browser is told ``code`` and ``reason``."""
        if self._closing:
            return
        self._closing, self.reason = True, self.reason or reason
        if self.server is not None:
            self.server.drop()
        if self.transport is None or self.transport.is_closing():
            return
        self.transport.resume_reading()
        self.transport.write(frames.close(code, reason))
        # its own close frame, or its end, comes back and closes the connection; a browser that does not read is cut off
        asyncio.get_running_loop().call_later(FAREWELL, self.transport.abort)

    # ---- asyncio.Protocol, from the browser

    def data_received(self, data: bytes) -> None:
        try:
            for opcode, payload in self._frames.feed(data):
                if opcode == frames.BINARY:
                    if not self._closing:
                        self._take(payload)
                elif opcode == frames.PING:
                    # section 5.5.3: only the newest needs an answer, and one who does not read them gets none
                    if not self._full:
                        self.transport.write(frames.header(len(payload), frames.PONG) + payload)
                elif opcode == frames.CLOSE:
                    self._bid_farewell(payload)
                    return
        except frames.FrameError as error:
            self._misbehaved(error.code, str(error))
        except RfbError as error:
            self._misbehaved(frames.PROTOCOL, str(error))

    def _take(self, payload: bytes) -> None:
        self.received += len(payload)
        if self._greeting is not None:
            answer, payload = self._greeting.feed(payload)
            if answer:
                self.deliver(answer)
            if self._greeting.done:
                assert self.greeted is not None
                shared, self._greeting = self._greeting.shared, None
                self.greeted.set_result(shared)
            if not payload:
                return
        inputs = self.messages.inputs
        allowed = self.messages.feed(payload)
        if self.messages.inputs != inputs:
            self.last_input = time.monotonic()
        if not allowed:
            return
        if self.server is not None:
            self.server.transport.write(allowed)
        else:
            self._waiting += allowed
            if len(self._waiting) > LOW_WATER:
                raise RfbError("the browser sends before its turn")

    def _misbehaved(self, code: int, text: str) -> None:
        log.warning("%s: %s", self.client, text)
        self.close(code, "protocol error")
        # nothing more of it is understood
        self.transport.close()

    def _bid_farewell(self, payload: bytes) -> None:
        if not self._closing:
            self.reason = self.reason or "closed by the browser"
            code = int.from_bytes(payload[:2], "big") if len(payload) >= 2 else frames.NORMAL
            self.transport.write(frames.close(code if 1000 <= code < 5000 and code not in (1005, 1006) else 1000))
        self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._closing = True
        if self.server is not None:
            self.server.drop()
        if self.greeted is not None and not self.greeted.done():
            self.greeted.cancel()
        self._ended(self, self.reason or "the connection to the browser broke")

    def pause_writing(self) -> None:
        self._full = True
        if self.server is not None:
            self.server.pause()

    def resume_writing(self) -> None:
        self._full = False
        if self.server is not None:
            self.server.resume()

    # ---- the server's side

    def attach(self, server: Server, hello: bytes, rest: bytes) -> None:
        """From now on the screen flows: send ``hello`` to the server, and ``rest`` of the server to the browser."""
        if self._closing:
            # the browser went while the server was on its way
            server.drop()
            return
        self.server, self.greeted = server, None
        if self._full:
            server.pause()
        server.transport.write(hello + self._waiting)
        self._waiting = b""
        if rest:
            server.data_received(rest)


class ServerSide(asyncio.Protocol):
    """The VNC server's side of a link. ``filter`` changes its stream, ``watcher`` sees it (recordings.py)."""

    __slots__ = ("_dropped", "_filter", "_link", "_watcher", "transport")

    def __init__(self, link: Link, filter: Filter | None = None, watcher: Watcher | None = None) -> None:
        self._link, self._filter, self._watcher = link, filter, watcher
        self._dropped = False
        self.transport: Any = None

    def data_received(self, data: bytes) -> None:
        if self._dropped:
            return
        if self._filter is not None:
            try:
                data = self._filter(data)
            except RfbError as error:
                log.warning("the VNC server of %s: %s", self._link.client, error)
                self._link.close(frames.INTERNAL, "the machine's screen is broken")
                return
            if not data:
                return
        if self._watcher is not None:
            self._watcher.watch(data)
        self._link.deliver(data)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._dropped:
            self._finish()
            self._link.close(SERVER_GONE, "the machine's screen went away")

    def drop(self) -> None:
        if not self._dropped:
            self._finish()
            self.transport.abort()

    def _finish(self) -> None:
        self._dropped = True
        if self._watcher is not None:
            self._watcher.end()

    def pause(self) -> None:
        self.transport.pause_reading()

    def resume(self) -> None:
        if not self._dropped and not self.transport.is_closing():
            self.transport.resume_reading()

    def pause_writing(self) -> None:
        if self._link.transport is not None:
            self._link.transport.pause_reading()

    def resume_writing(self) -> None:
        if not self._link.transport.is_closing():
            self._link.transport.resume_reading()


#: status codes of ours (RFC 6455 section 7.4.2); the page has a sentence for each
ENDED, IDLE, TOO_LONG, ELSEWHERE, SERVER_GONE, NO_SCREEN, RESTART = 4000, 4001, 4002, 4003, 4004, 4005, 4006
PLAYED, REWIND = 4007, 4008
