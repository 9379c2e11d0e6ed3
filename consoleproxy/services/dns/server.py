"""The name server: ``python -m consoleproxy.services.dns.server CONFIG``, by UDP and TCP (RFC 7766).

CONFIG is JSON: ``listen`` (addresses), ``port``, ``domain``, ``ranges``, ``nameservers``, ``ttl``. SIGHUP reads it
again.
"""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import sys
import time
from contextlib import suppress
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import dns.name
import uvloop

from consoleproxy.services.dns.answers import Zone, answer, truncated

#: answers that one network (24 bits) gets by UDP at once, and then in a second; past that it is sent to TCP, and past
#: twice that it hears nothing
BURST, RATE = 200.0, 50.0
#: networks that are counted
MOST_COUNTED = 16_384
#: connections by TCP, queries on each, and seconds for the next one
MOST_CONNECTIONS, MOST_QUERIES, PATIENCE = 256, 100, 5.0
#: <linux/in.h>
IP_FREEBIND = 15


class Limiter:
    """A token bucket for each network."""

    def __init__(self) -> None:
        self._buckets: dict[str, tuple[float, float]] = {}

    def take(self, address: str, now: float) -> float:
        """Take a token; how many are left, below zero (down to -BURST) when there was none."""
        network = address.rpartition(".")[0]
        if len(self._buckets) >= MOST_COUNTED:
            self._buckets.clear()
        tokens, counted = self._buckets.get(network, (BURST, now))
        tokens = max(-BURST, min(BURST, tokens + (now - counted) * RATE) - 1)
        self._buckets[network] = (tokens, now)
        return tokens


class Server:
    """The zone as the newest configuration has it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.limiter = Limiter()
        self.connections = 0
        self.load()

    def load(self) -> None:
        self.config: dict[str, Any] = json.loads(self._path.read_text())
        self.zone = Zone(
            dns.name.from_text(self.config["domain"]),
            tuple((IPv4Address(first), IPv4Address(last)) for first, last in self.config["ranges"]),
            tuple(map(IPv4Address, self.config["nameservers"])),
            self.config["ttl"],
        )

    async def converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One TCP connection."""
        self.connections += 1
        try:
            for _ in range(MOST_QUERIES if self.connections <= MOST_CONNECTIONS else 0):
                async with asyncio.timeout(PATIENCE):
                    size = int.from_bytes(await reader.readexactly(2), "big")
                    reply = answer(await reader.readexactly(size), self.zone, udp=False)
                    if reply is None:
                        break
                    writer.write(len(reply).to_bytes(2, "big") + reply)
                    await writer.drain()
        except (OSError, EOFError, TimeoutError):
            pass
        finally:
            self.connections -= 1
            writer.close()


class Datagrams(asyncio.DatagramProtocol):
    """Queries by UDP."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        left = self._server.limiter.take(addr[0], time.monotonic())
        if left <= -BURST:
            return
        reply = answer(data, self._server.zone, udp=True) if left >= 0 else truncated(data)
        if reply is not None:
            self._transport.sendto(reply, addr)

    def error_received(self, exc: Exception) -> None: ...


def _bound(kind: socket.SocketKind, address: str, port: int) -> socket.socket:
    bound = socket.socket(socket.AF_INET, kind)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.setsockopt(socket.IPPROTO_IP, IP_FREEBIND, 1)
    bound.bind((address, port))
    return bound


async def serve(path: Path) -> None:
    """Serve until SIGTERM. Raises OSError for an address that cannot be had."""
    server = Server(path)
    loop, stopped = asyncio.get_running_loop(), asyncio.Event()
    for address in server.config["listen"]:
        port = server.config["port"]
        await loop.create_datagram_endpoint(lambda: Datagrams(server), sock=_bound(socket.SOCK_DGRAM, address, port))
        await asyncio.start_server(server.converse, sock=_bound(socket.SOCK_STREAM, address, port), limit=65537)
    loop.add_signal_handler(signal.SIGTERM, stopped.set)
    loop.add_signal_handler(signal.SIGHUP, server.load)
    await stopped.wait()


def main() -> int:
    with suppress(KeyboardInterrupt), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(Path(sys.argv[1])))
    return 0


if __name__ == "__main__":
    sys.exit(main())
