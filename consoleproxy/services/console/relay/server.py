"""The relay's life: listeners, signals, time, and the socket on which the agent asks."""

from __future__ import annotations

import asyncio
import logging
import resource
import signal
import time
from pathlib import Path
from typing import Any

from appliance.inquiry import answer
from appliance.webfront import front, listening
from consoleproxy.services.console.relay.config import ConfigError, load
from consoleproxy.services.console.relay.ledger import Ledger
from consoleproxy.services.console.relay.page import assets
from consoleproxy.services.console.relay.pages import Pages
from consoleproxy.services.console.relay.recordings import Recordings
from consoleproxy.services.console.relay.registry import Registry
from consoleproxy.services.console.relay.routes import Site

log = logging.getLogger(__name__)

BACKLOG = 512
#: seconds for a TLS handshake
TLS_SECONDS = 10.0


class Relay:
    """The relay that is configured in the file ``path``."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._error = ""
        self._listeners: dict[tuple[str, int, bool], asyncio.Server] = {}

    async def run(self) -> int:
        """Serve until SIGTERM; the exit status."""
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, 65536), most))
        try:
            self._config = load(self._path)
            files = assets()
        except (ConfigError, OSError) as error:
            log.error("%s", error)
            return 1
        loop = asyncio.get_running_loop()
        stopped = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stopped.set)
        loop.add_signal_handler(signal.SIGHUP, lambda: self._reloading(loop))
        self._registry = Registry(Ledger(self._config.state / "ledger.sqlite"), self._config.console)
        self._recordings = Recordings(self._config.state)
        self._site = Site(self._config, self._registry, self._recordings, files)
        self._pages = Pages(self._site.handle)
        await self._listen()
        self._agent = await answer(self._config.socket, self._status, self._recordings.serve)
        ticking = loop.create_task(self._tick())
        await stopped.wait()
        ticking.cancel()
        self._registry.close()
        await asyncio.sleep(0.2)  # for the browsers to hear of it
        for listener in self._listeners.values():
            listener.close()
        await self._pages.shutdown(0)
        return 0

    # ---- configuration

    def _reloading(self, loop: asyncio.AbstractEventLoop) -> None:
        self._task = loop.create_task(self._reload())

    async def _reload(self) -> None:
        try:
            config = load(self._path)
        except ConfigError as error:
            log.error("%s", error)
            self._error = str(error)
            return
        self._config = self._site.config = config
        self._registry.load(config.console)
        await self._listen()

    async def _listen(self) -> None:
        """Have a listener on each address. They outlive a change of the certificate, and so do connections."""
        config = self._config
        secure = config.context is not None
        wanted = {(address, config.console.port, secure) for address in config.listen}
        for key in self._listeners.keys() - wanted:
            self._listeners.pop(key).close()
        self._error = ""
        for key in wanted - self._listeners.keys():
            try:
                self._listeners[key] = await self._listener(*key)
            except OSError as error:
                self._error = f"port {key[1]} of {key[0]} cannot be served: {error.strerror or error}"
                log.error("%s", self._error)
        self._served = config.digest

    async def _listener(self, address: str, port: int, secure: bool) -> asyncio.Server:
        return await asyncio.get_running_loop().create_server(
            self._pages,
            sock=listening(address, port),
            backlog=BACKLOG,
            ssl=front(lambda: self._config.context) if secure else None,
            ssl_handshake_timeout=TLS_SECONDS if secure else None,
        )

    # ---- time

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(1)
            try:
                self._registry.tick()
                self._recordings.tick(self._config, self._registry.played())
                self._pages.cut_off()
            except Exception:
                log.exception("every second")

    # ---- the agent

    async def _status(self) -> dict[str, Any]:
        """What is served and what became of sessions; times are UNIX times, ``sent`` and ``received`` octets."""
        registry = self._registry
        links = [(live, live.link) for live in registry.sessions.values() if live.link is not None]
        return {
            "digest": self._served,
            "error": self._error,
            "sessions": len(links),
            "session_max": self._config.console.session_max,
            "open": [
                {
                    "session": live.session.id,
                    "client": link.client,
                    "began": link.began,
                    "idle": round(time.monotonic() - link.last_input, 1),
                    "sent": link.sent,
                    "received": link.received,
                }
                for live, link in links
            ],
            "totals": {
                "sessions": len(links),
                "sent": registry.sent + sum(link.sent for _, link in links),
                "received": registry.received + sum(link.received for _, link in links),
                "refused": registry.refused,
            },
            "recordings": self._recordings.known(),
            "records": await registry.records(),
        }
