"""A link between a browser and a server that are none: what is passed on, what is left out, and whose end ends what."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from consoleproxy.rfb.client import ClientMessages
from consoleproxy.services.console.relay import frames
from consoleproxy.services.console.relay.link import Link, ServerSide


class Transport:
    """Keeps what is written."""

    def __init__(self) -> None:
        self.written = b""
        self.reading, self.closed = True, False

    def get_extra_info(self, name: str) -> None: ...

    def set_write_buffer_limits(self, high: int, low: int) -> None: ...

    def set_protocol(self, protocol: object) -> None: ...

    def write(self, data: bytes) -> None:
        self.written += data

    def writelines(self, parts: tuple[bytes, ...]) -> None:
        self.written += b"".join(parts)

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def close(self) -> None:
        self.closed = True

    abort = close


def masked(payload: bytes, opcode: int = frames.BINARY) -> bytes:
    return bytes((0x80 | opcode, 0x80 | len(payload))) + bytes(4) + payload


@contextmanager
def linked(ends: list[str]) -> Iterator[tuple[Link, Any, ServerSide]]:
    """A link whose browser has finished its part, the browser's transport, and a server that is not attached yet."""
    messages = ClientMessages(view_only=False, clipboard=True)
    link = Link("203.0.113.50", messages, lambda _, reason: ends.append(reason))
    transport = Transport()
    link.adopt(transport)
    link.greet()
    link.data_received(masked(b"RFB 003.008\n" + bytes((1, 1))))
    transport.written = b""
    side = ServerSide(link)
    side.transport = Transport()
    yield link, transport, side


def test_both_ways() -> None:
    async def body() -> None:
        with linked([]) as (link, browser, side):
            link.data_received(masked(bytes((3, 0)) + bytes(8)))
            link.attach(side, b"\1", b"init")
            link.data_received(masked(bytes((4, 1, 0, 0)) + b"\0\0\0a"))
            assert side.transport.written == b"\1" + bytes((3, 0)) + bytes(8) + bytes((4, 1, 0, 0)) + b"\0\0\0a"
            side.data_received(b"picture")
            assert browser.written == frames.header(4) + b"init" + frames.header(7) + b"picture"
            assert (link.sent, link.received) == (12 + 2 + 4 + 11, 12 + 2 + 10 + 8)

    asyncio.run(body())


def test_a_browser_that_does_not_read_stops_the_server_and_gets_no_pongs() -> None:
    async def body() -> None:
        with linked([]) as (link, browser, side):
            link.attach(side, b"", b"")
            link.data_received(masked(b"1", frames.PING))
            assert browser.written == frames.header(1, frames.PONG) + b"1"
            browser.written = b""
            link.pause_writing()
            assert not side.transport.reading
            link.data_received(masked(b"2", frames.PING) * 1000)
            assert browser.written == b""
            link.resume_writing()
            assert side.transport.reading
            link.data_received(masked(b"3", frames.PING))
            assert browser.written.endswith(b"3")

    asyncio.run(body())


def test_a_server_that_does_not_read_stops_the_browser() -> None:
    async def body() -> None:
        with linked([]) as (link, browser, side):
            link.attach(side, b"", b"")
            side.pause_writing()
            assert not browser.reading
            side.resume_writing()
            assert browser.reading

    asyncio.run(body())


def test_a_server_that_comes_too_late_is_let_go() -> None:
    async def body() -> None:
        ends: list[str] = []
        with linked(ends) as (link, _, side):
            link.connection_lost(None)
            link.attach(side, b"\1", b"")
            assert side.transport.closed
            assert side.transport.written == b""
            assert ends == ["the connection to the browser broke"]

    asyncio.run(body())


def test_a_close_ends_both_sides_and_says_why() -> None:
    async def body() -> None:
        ends: list[str] = []
        with linked(ends) as (link, browser, side):
            link.attach(side, b"", b"")
            link.close(4000, "ended by the cloud")
            assert side.transport.closed
            assert browser.written == frames.close(4000, "ended by the cloud")
            side.data_received(b"a picture that comes after it")
            link.connection_lost(None)
            assert browser.written == frames.close(4000, "ended by the cloud")
            assert ends == ["ended by the cloud"]

    asyncio.run(body())


def test_nonsense_from_the_browser() -> None:
    async def body() -> None:
        with linked([]) as (link, browser, side):
            link.attach(side, b"", b"")
            link.data_received(masked(b"\x63"))
            assert side.transport.closed and browser.closed
            assert browser.written == frames.close(frames.PROTOCOL, "protocol error")

    asyncio.run(body())
