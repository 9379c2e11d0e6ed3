"""The page that waits for a console proxy to start, and what it asks: ``/client/console``.

Whoever has the token of a session that waits may ask; it comes in the body of a POST, so that it is in no log.
"""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio
from fastapi import FastAPI
from starlette.requests import ClientDisconnect
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse
from starlette.responses import Response as HttpResponse

from controlplane.api.call import Runtime
from controlplane.api.passwords import token_hash
from controlplane.console.endpoints import Endpoint
from controlplane.errors import ApiError
from controlplane.setting import words

PAGE = "/client/console"
_FILES = Path(__file__).parent / "page"
#: path -> file and its type
_SERVED = {
    PAGE: ("console.html", "text/html; charset=utf-8"),
    f"{PAGE}.js": ("console.js", "text/javascript; charset=utf-8"),
    f"{PAGE}.css": ("console.css", "text/css; charset=utf-8"),
}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors {}"
)
_HEADERS = {
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}
_LONGEST_QUESTION = 1024
_HOST = re.compile(r"[A-Za-z0-9.-]{1,253}(:[0-9]{1,5})?|\[[0-9A-Fa-f:.]{2,45}\](:[0-9]{1,5})?")


def origin_of(http: HttpRequest) -> str:
    """Where the request was sent to, as its sender calls it: scheme, host and port; empty when that is no name."""
    host = http.headers.get("host", "")
    return f"{http.scope['scheme']}://{host}" if _HOST.fullmatch(host) else ""


def add_starting_page(app: FastAPI, runtime: Runtime, workers: anyio.CapacityLimiter) -> None:
    """Serve the page and its question."""

    async def ready(http: HttpRequest) -> HttpResponse:
        try:
            token = await _token(http)
        except ClientDisconnect:
            return HttpResponse(status_code=400)
        answer = await anyio.to_thread.run_sync(_ready, runtime, token, limiter=workers)
        return JSONResponse(answer, headers=_HEADERS)

    app.add_api_route(f"{PAGE}/ready", ready, methods=["POST"])
    for path, (name, kind) in _SERVED.items():
        app.add_api_route(path, _file(name, kind, runtime, workers), methods=["GET"])


def _file(
    name: str, kind: str, runtime: Runtime, workers: anyio.CapacityLimiter
) -> Callable[[], Awaitable[HttpResponse]]:
    body = (_FILES / name).read_bytes()

    async def get() -> HttpResponse:
        policy = await anyio.to_thread.run_sync(_policy, runtime, limiter=workers)
        headers = {**_HEADERS, "Content-Security-Policy": policy, "Content-Type": kind}
        return HttpResponse(body, media_type=None, headers=headers)

    return get


def _policy(runtime: Runtime) -> str:
    """Who may show consoles in a frame may show this page too."""
    with runtime.database.reading() as session:
        ancestors = runtime.configuration.get(session, "consoleproxy.frame.ancestors")
    return _POLICY.format(" ".join(words(ancestors)) or "'none'")


async def _token(http: HttpRequest) -> str:
    """Of ``{"token": ...}``; empty where there is none."""
    body = b""
    async for chunk in http.stream():
        body += chunk
        if len(body) > _LONGEST_QUESTION:
            return ""
    try:
        asked = json.loads(body)
    except ValueError:
        return ""
    token = asked.get("token") if isinstance(asked, dict) else None
    return token if isinstance(token, str) else ""


def _ready(runtime: Runtime, token: str) -> dict[str, str]:
    try:
        found = runtime.consoles.resume(token_hash(token), token)
    except ApiError as error:
        return {"state": "failed", "detail": error.text}
    return {"state": "ready", "url": found.url} if isinstance(found, Endpoint) else {"state": "starting"}
