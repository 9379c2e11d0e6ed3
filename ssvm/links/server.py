"""The two HTTPS servers: for browsers and other clients, and for other SSVMs."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable

from aiohttp import web

from appliance.webfront import front, listening
from ssvm.jobs.runner import Runner
from ssvm.links.downloads import Downloads
from ssvm.links.uploads import Uploads
from ssvm.services.storage.model.report import LinkReport
from ssvm.services.storage.worker.config import Config
from ssvm.stores.holdings import Holdings

log = logging.getLogger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

#: headers that uploads have, for browsers that ask before they send
_ALLOWED = "X-signature, X-metadata, X-expires, Content-Type"
_PREFLIGHT_SECONDS = "600"
#: seconds for a TLS handshake
TLS_SECONDS = 10.0


class Servers:
    """Listeners outlive a change of certificates, and so do connections."""

    def __init__(self, runner: Runner, holdings: Holdings) -> None:
        self._uploads, self._downloads = Uploads(runner), Downloads(holdings)
        self._config: Config | None = None
        clients = web.Application(middlewares=[self._cross_origin])
        clients.add_routes(
            [
                web.post("/upload/{id}", self._uploads.receive),
                web.get("/extract/{token}/{name}", self._downloads.by_token),
            ]
        )
        peers = web.Application()
        peers.add_routes([web.get("/peer/{id}", self._downloads.by_peer)])
        self._clients, self._peers = (
            web.AppRunner(application, access_log=None, handle_signals=False) for application in (clients, peers)
        )
        self._listeners: dict[tuple[str, int], asyncio.Server] = {}

    async def load(self, config: Config) -> str:
        """Serve what the configuration says; why that is not possible, or ""."""
        self._config = config
        self._downloads.load(config.storage.links)
        if self._clients.server is None:
            await self._clients.setup()
            await self._peers.setup()
        wanted: dict[tuple[str, int], tuple[web.AppRunner, Callable[[], ssl.SSLContext | None]]] = {}
        if config.context is not None:
            for address in config.listen:
                wanted[address, config.storage.port] = (self._clients, self._context)
        if config.peer_context is not None:
            for address in config.peer_listen:
                wanted[address, config.storage.peer_port] = (self._peers, self._peer_context)
        for key in self._listeners.keys() - wanted.keys():
            self._listeners.pop(key).close()
        for key in wanted.keys() - self._listeners.keys():
            runner, context = wanted[key]
            try:
                self._listeners[key] = await self._listener(*key, runner, context)
            except OSError as error:
                log.error("port %d of %s: %s", key[1], key[0], error)
                return f"port {key[1]} of {key[0]} cannot be served: {error.strerror or error}"
        return ""

    @staticmethod
    async def _listener(
        address: str, port: int, runner: web.AppRunner, newest: Callable[[], ssl.SSLContext | None]
    ) -> asyncio.Server:
        assert runner.server is not None
        outer = front(newest)
        if (first := newest()) is not None:
            # whether a certificate is asked for is decided before the newest context is looked up
            outer.verify_mode = first.verify_mode
        return await asyncio.get_running_loop().create_server(
            runner.server, sock=listening(address, port), ssl=outer, ssl_handshake_timeout=TLS_SECONDS
        )

    def _context(self) -> ssl.SSLContext | None:
        return self._config.context if self._config is not None else None

    def _peer_context(self) -> ssl.SSLContext | None:
        return self._config.peer_context if self._config is not None else None

    @web.middleware
    async def _cross_origin(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Pages of the control plane's origins may send uploads, and no other page may (Fetch standard, CORS)."""
        origin = request.headers.get("Origin")
        if origin is None or not request.path.startswith("/upload/"):
            return await handler(request)
        if self._config is None or origin not in self._config.storage.origins:
            raise web.HTTPForbidden(text="pages of this origin may not upload\n")
        allowed = {"Access-Control-Allow-Origin": origin, "Vary": "Origin"}
        if request.method == "OPTIONS":
            allowed |= {
                "Access-Control-Allow-Methods": "POST",
                "Access-Control-Allow-Headers": _ALLOWED,
                "Access-Control-Max-Age": _PREFLIGHT_SECONDS,
            }
            return web.Response(status=204, headers=allowed)
        try:
            response = await handler(request)
        except web.HTTPException as error:
            error.headers.update(allowed)
            raise
        response.headers.update(allowed)
        return response

    def tick(self) -> None:
        """Once a second."""
        self._uploads.tick()

    def report(self) -> list[LinkReport]:
        return self._downloads.report()

    async def close(self) -> None:
        for listener in self._listeners.values():
            listener.close()
