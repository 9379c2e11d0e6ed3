"""HTTP: the page, what it may know of its session, and the check before a session's socket opens.

Tokens and cookies are in no log: requests are not logged, and what is refused is logged by session.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import logging
from typing import Any

from aiohttp import web

from consoleproxy.services.console.model import Playback
from consoleproxy.services.console.relay.config import Config
from consoleproxy.services.console.relay.link import Link
from consoleproxy.services.console.relay.opening import messages_for, open_screen
from consoleproxy.services.console.relay.page import Asset
from consoleproxy.services.console.relay.playback import rewind
from consoleproxy.services.console.relay.recordings import Recordings
from consoleproxy.services.console.relay.registry import Live, RefusedError, Registry

log = logging.getLogger(__name__)

#: RFC 6455 section 1.3
_MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
#: the name begins with __Host-: the browser takes it over TLS only, for this host only (RFC 6265bis section 4.1.3.2)
_COOKIE = "__Host-console-"
_LONGEST_TOKEN, _LONGEST_QUESTION = 256, 4096


def content_security_policy(ancestors: tuple[str, ...]) -> str:
    """Nothing but the page's own files; noVNC draws cursors and JPEG rectangles from data: and blob: images."""
    return (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
        f"base-uri 'none'; form-action 'none'; frame-ancestors {' '.join(ancestors) or chr(39) + 'none' + chr(39)}"
    )


class Site:
    """The application. ``config`` is replaced when the document changes."""

    def __init__(self, config: Config, registry: Registry, recordings: Recordings, assets: dict[str, Asset]) -> None:
        self.config, self._registry, self._recordings, self._assets = config, registry, recordings, assets
        self._opening: set[asyncio.Task[None]] = set()
        self._handlers = {
            "/websockify": self._websocket,
            "/console/session": self._session,
            "/console/playback": self._playback,
        }

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Every request comes here."""
        path = request.path
        if handle := self._handlers.get(path):
            return await handle(request)
        if path == "/console" and request.method in ("GET", "HEAD"):
            return self._finished(
                web.Response(status=308, headers={"Location": f"/console/?{request.rel_url.raw_query_string}"})
            )
        asset = self._assets.get(path)
        if asset is None:
            return self._text(404, "There is nothing here.")
        if request.method not in ("GET", "HEAD"):
            return self._text(405, "This can only be read.")
        return self._finished(_file(request, asset))

    # ---- answers

    def _finished(self, response: web.Response) -> web.Response:
        """With the headers that every answer has."""
        response.headers.update(
            {
                "Content-Security-Policy": content_security_policy(self.config.console.frame_ancestors),
                "Referrer-Policy": "no-referrer",
                "X-Content-Type-Options": "nosniff",
                "Cross-Origin-Resource-Policy": "same-origin",
                "Permissions-Policy": "camera=(), microphone=(), geolocation=(), payment=(), usb=()",
            }
        )
        if not self.config.console.frame_ancestors:
            response.headers["X-Frame-Options"] = "DENY"
        if "Cache-Control" not in response.headers:
            response.headers["Cache-Control"] = "no-store"
        response.headers["Server"] = "gatehouse"
        return response

    def _text(self, status: int, text: str) -> web.Response:
        return self._finished(web.Response(status=status, text=f"{text}\n"))

    # ---- sessions

    def _find(self, request: web.BaseRequest, token: str, session: str) -> Live:
        """Raises RefusedError."""
        client = request.remote or ""
        if request.headers.get("Origin") not in self.config.origins:
            raise RefusedError("foreign", f"a page of {request.headers.get('Origin')!r:.200} asked from {client}")
        if token:
            return self._registry.by_token(token[:_LONGEST_TOKEN], client)
        return self._registry.by_secret(session, request.cookies.get(_COOKIE + session, ""), client)

    def _refused(self, error: RefusedError) -> str:
        log.warning("refused: %s", error)
        self._registry.refused += 1
        return error.state

    async def _session(self, request: web.BaseRequest) -> web.StreamResponse:
        """What the page shows beforehand. It sends ``{"token": ...}``, or ``{"session": ...}`` and its cookie."""
        asked = await self._asked(request)
        if isinstance(asked, web.Response):
            return asked
        try:
            live = self._find(request, str(asked.get("token", "")), str(asked.get("session", "")))
        except RefusedError as error:
            return self._json(403, {"state": self._refused(error)})
        policy, target = live.session.policy, live.session.target
        facts = {
            "state": "ready",
            "session": live.session.id,
            "name": live.session.name or live.session.vm,
            "viewOnly": policy.view_only,
            "clipboard": policy.clipboard and not policy.view_only,
            "recorded": policy.record,
            "playback": isinstance(target, Playback),
        }
        return self._json(200, facts)

    async def _playback(self, request: web.BaseRequest) -> web.StreamResponse:
        """Where the recording is that a session shows. The page sends ``{"session": ...}`` and its cookie, and with it
        ``at`` (seconds) to go there, ``speed`` and ``paused``.
        """
        asked = await self._asked(request)
        if isinstance(asked, web.Response):
            return asked
        try:
            live = self._find(request, "", str(asked.get("session", "")))
        except RefusedError as error:
            return self._json(403, {"state": self._refused(error)})
        if not isinstance(live.session.target, Playback):
            return self._text(404, "This session shows no recording.")
        clock, at, speed, paused = live.clock, asked.get("at"), asked.get("speed"), asked.get("paused")
        clock.set(
            speed=float(speed) if isinstance(speed, int | float) else None,
            paused=paused if isinstance(paused, bool) else None,
        )
        if isinstance(at, int | float) and clock.move(float(at)) and live.link is not None:
            rewind(live.link)
        return self._json(200, clock.tell())

    async def _asked(self, request: web.BaseRequest) -> dict[str, Any] | web.Response:
        """The JSON object of a page's question, or what to answer to anything else."""
        if request.method != "POST" or request.content_type != "application/json":
            return self._text(405, "The page asks by a POST of JSON.")
        text = b""
        while len(text) <= _LONGEST_QUESTION and (part := await request.content.readany()):
            text += part
        try:
            asked = json.loads(text[:_LONGEST_QUESTION], parse_constant=lambda _: None)
        except ValueError:
            asked = None
        return asked if isinstance(asked, dict) else self._text(400, "This is no JSON object.")

    def _json(self, status: int, body: dict[str, Any]) -> web.Response:
        return self._finished(web.json_response(body, status=status))

    async def _websocket(self, request: web.BaseRequest) -> web.StreamResponse:
        """Check everything, use the token up, answer 101, and let aiohttp go: the connection is a Link's from here."""
        accept = _accept(request)
        if accept is None:
            return self._text(400, "This path takes WebSockets only.")
        client = request.remote or ""
        token = request.query.get("token", "")
        try:
            live = self._find(request, token, request.query.get("session", ""))
            if not self._registry.room(live):
                raise RefusedError("full", f"no room for session {live.session.id}")
            secret = await self._registry.use(live, client) if token else ""
        except RefusedError as error:
            return self._text(403, f"This console cannot be opened: {self._refused(error)}.")
        head = [
            "HTTP/1.1 101 Switching Protocols",
            "Upgrade: websocket",
            "Connection: Upgrade",
            f"Sec-WebSocket-Accept: {accept}",
        ]
        if "binary" in [word.strip() for word in request.headers.get("Sec-WebSocket-Protocol", "").split(",")]:
            head.append("Sec-WebSocket-Protocol: binary")
        if secret:
            head.append(
                f"Set-Cookie: {_COOKIE}{live.session.id}={secret}; Path=/; Secure; HttpOnly; SameSite=Strict; "
                f"Max-Age={self.config.console.length_limit or 86_400}"
            )
        if request.transport is None:  # gone while the use was written
            return web.Response()
        link = Link(client, messages_for(live.session), lambda link, why: self._registry.disconnected(live, link, why))
        request.transport.write(("\r\n".join(head) + "\r\n\r\n").encode("latin-1"))
        _take_over(request, link)
        self._registry.connect(live, link)
        opening = asyncio.get_running_loop().create_task(
            open_screen(link, live.session, self._recordings, self.config, live.clock)
        )
        self._opening.add(opening)
        opening.add_done_callback(self._opening.discard)
        # aiohttp finds its connection gone, and ends
        return web.Response()


def _file(request: web.BaseRequest, asset: Asset) -> web.Response:
    keep = f"public, max-age={asset.age}, immutable" if asset.age else "no-cache"
    headers = {"ETag": asset.tag, "Cache-Control": keep, "Vary": "Accept-Encoding"}
    if request.headers.get("If-None-Match") == asset.tag:
        return web.Response(status=304, headers=headers)
    headers["Content-Type"] = asset.type
    if "gzip" in request.headers.get("Accept-Encoding", ""):
        return web.Response(body=asset.zipped, headers={**headers, "Content-Encoding": "gzip"})
    return web.Response(body=asset.body, headers=headers)


def _accept(request: web.BaseRequest) -> str | None:
    """Sec-WebSocket-Accept of a proper opening handshake (RFC 6455 section 4.2.1), else None."""
    headers = request.headers
    key = headers.get("Sec-WebSocket-Key", "")
    try:
        proper = len(base64.b64decode(key, validate=True)) == 16
    except ValueError:
        proper = False
    if (
        request.method != "GET"
        or headers.get("Upgrade", "").lower() != "websocket"
        or "upgrade" not in headers.get("Connection", "").lower()
        or headers.get("Sec-WebSocket-Version") != "13"
        or not proper
    ):
        return None
    return base64.b64encode(hashlib.sha1(key.encode() + _MAGIC, usedforsecurity=False).digest()).decode()


def _take_over(request: web.BaseRequest, link: Link) -> None:
    old = request.protocol
    transport = old.transport
    link.adopt(transport)
    # or its farewell would close what is ours now
    old.transport = None
    old.connection_lost(None)
