"""A relay of TCP connections that does nothing else: ``python -m tests.bench.console.plain PORT SOURCE_PORT``."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import uvloop


class Side(asyncio.Protocol):
    """One side; what it reads goes to ``other``."""

    def __init__(self, other: Side | None = None) -> None:
        self.other = other
        self.transport: Any = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        transport.set_write_buffer_limits(262_144, 65_536)
        if self.other is None:
            self._connecting = asyncio.ensure_future(self._connect())

    async def _connect(self) -> None:
        await asyncio.get_running_loop().create_connection(lambda: Upstream(self), "127.0.0.1", int(sys.argv[2]))

    def data_received(self, data: bytes) -> None:
        assert self.other is not None
        self.other.transport.write(data)

    def pause_writing(self) -> None:
        assert self.other is not None
        self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        assert self.other is not None
        self.other.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.abort()


class Upstream(Side):
    """The source's side."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        assert self.other is not None
        self.other.other = self


async def _serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Side, "127.0.0.1", port, backlog=512)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1])))
