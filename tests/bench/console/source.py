"""A VNC server that costs little: ``python -m tests.bench.console.source PORT``.

RFB 3.8 without security. What it does after its ServerInit is told by x of each FramebufferUpdateRequest: STREAM sends
without end, ECHO sends the request's ten octets back, FRAMES sends 16 KiB twenty times a second.
"""

from __future__ import annotations

import asyncio
import struct
import sys
from typing import Any

import uvloop

STREAM, ECHO, FRAMES = 0, 1, 2
#: octets of a frame, and seconds between two
FRAME, INTERVAL = 16_384, 0.05
_INIT = struct.pack("!HH16sI", 800, 600, bytes(16), 4) + b"test"
_CHUNK = bytes(262_144)


class Source(asyncio.Protocol):
    """One connection."""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._buffer = b""
        #: lengths of what the client says before the first message: version, security type, ClientInit
        self._steps = [(12, b"\1\1"), (1, bytes(4)), (1, _INIT)]
        self._streaming = self._paused = False
        transport.write(b"RFB 003.008\n")

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while self._steps and len(self._buffer) >= self._steps[0][0]:
            size, answer = self._steps.pop(0)
            self._buffer = self._buffer[size:]
            self._transport.write(answer)
        while not self._steps and len(self._buffer) >= 10:
            message, self._buffer = self._buffer[:10], self._buffer[10:]
            what = struct.unpack_from("!H", message, 2)[0]
            if what == ECHO:
                self._transport.write(message)
            elif what == FRAMES:
                self._frame(asyncio.get_running_loop().time())
            else:
                self._streaming = True
                self._stream()

    def _stream(self) -> None:
        while self._streaming and not self._paused and not self._transport.is_closing():
            self._transport.write(_CHUNK)

    def _frame(self, due: float) -> None:
        if not self._transport.is_closing():
            self._transport.write(_CHUNK[:FRAME])
            asyncio.get_running_loop().call_at(due + INTERVAL, self._frame, due + INTERVAL)

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self._stream()

    def connection_lost(self, exc: Exception | None) -> None:
        self._streaming = False


async def _serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Source, "127.0.0.1", port, backlog=512)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1])))
