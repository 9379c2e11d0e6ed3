"""Connections that are no session's (yet): how many there are, how many from one address, and how long they last."""

from __future__ import annotations

import time
from asyncio import Transport
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

#: seconds a connection may last before it is a session's: a page is loaded by then, and nobody holds one open by
#: sending a request slowly
PAGE_SECONDS = 30.0
MOST_PAGES, MOST_BY_ONE = 1024, 256


class Pages(web.Server):
    """aiohttp's server, whose connections are counted."""

    def __init__(self, handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]) -> None:
        super().__init__(handler, access_log=None, keepalive_timeout=PAGE_SECONDS, lingering_time=0)
        #: aiohttp's protocol -> (transport, the peer's address, when it came)
        self._open: dict[Any, tuple[Transport, str, float]] = {}
        self._by_address: Counter[str] = Counter()

    def connection_made(self, handler: Any, transport: Transport) -> None:
        super().connection_made(handler, transport)
        peer = transport.get_extra_info("peername")
        address = peer[0] if peer else ""
        self._open[handler] = (transport, address, time.monotonic())
        self._by_address[address] += 1
        if len(self._open) > MOST_PAGES or self._by_address[address] > MOST_BY_ONE:
            transport.abort()

    def connection_lost(self, handler: Any, exc: BaseException | None = None) -> None:
        super().connection_lost(handler, exc)
        known = self._open.pop(handler, None)
        if known is not None:
            self._by_address[known[1]] -= 1
            if not self._by_address[known[1]]:
                del self._by_address[known[1]]

    def cut_off(self) -> None:
        """End connections that have lasted too long; called every second."""
        old = time.monotonic() - PAGE_SECONDS
        for transport, _, came in list(self._open.values()):
            if came < old:
                transport.abort()
