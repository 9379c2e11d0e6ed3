"""A connection to a VNC server while the handshake lasts; then it is handed to the relay."""

from __future__ import annotations

import asyncio
import ssl
from typing import Any

#: octets that a server may send ahead of the handshake
_AHEAD = 65536


class Stream(asyncio.Protocol):
    """rfb/security.Stream on a transport."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._buffer = bytearray()
        self._waiter: asyncio.Future[None] | None = None
        self._lost = False
        self.transport: Any = None

    async def read(self, size: int) -> bytes:
        while len(self._buffer) < size:
            if self._lost:
                raise EOFError("the server closed the connection")
            self._waiter = self._loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        data = bytes(self._buffer[:size])
        del self._buffer[:size]
        return data

    def write(self, data: bytes) -> None:
        self.transport.write(data)

    async def start_tls(self, context: ssl.SSLContext, server_name: str) -> None:
        if self._buffer:
            raise ssl.SSLError("the server sent something before TLS began")
        self.transport = await self._loop.start_tls(
            self.transport, self, context, server_hostname=server_name, ssl_handshake_timeout=10
        )

    def hand_over(self, protocol: asyncio.Protocol) -> tuple[asyncio.Transport, bytes]:
        """The connection is ``protocol``'s from now on; the transport, and what was read and not asked for.

        Raises EOFError when the connection is lost already.
        """
        if self._lost:
            raise EOFError("the server closed the connection")
        self.transport.set_protocol(protocol)
        rest, self._buffer = bytes(self._buffer), bytearray()
        return self.transport, rest

    def close(self) -> None:
        if self.transport is not None:
            self.transport.abort()

    # ---- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if len(self._buffer) > _AHEAD:
            self.connection_lost(None)
            self.transport.abort()
        elif self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
