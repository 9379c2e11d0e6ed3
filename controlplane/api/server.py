"""The API over HTTP: ``/client/api``, GET and POST forms; handlers run in worker threads."""

from __future__ import annotations

import ipaddress

import anyio
from fastapi import FastAPI
from starlette.requests import ClientDisconnect
from starlette.requests import Request as HttpRequest
from starlette.responses import Response as HttpResponse

from controlplane.api.call import Runtime
from controlplane.api.command import commands
from controlplane.api.dispatch import Limits, Reply, Request, error_reply, handle
from controlplane.api.starting import add_starting_page, origin_of
from controlplane.errors import ApiError

PATH = "/client/api"
#: User data may have 1 MiB, in base64 (4/3) and percent-encoded; nothing legitimate is larger.
MAX_BODY = 2 * 1024 * 1024
MAX_QUERY = 256 * 1024
#: Concurrent calls; more wait. Each may hold a database connection.
WORKERS = 40
_FORM = "application/x-www-form-urlencoded"


def create_app(runtime: Runtime, *, integration: bool = False) -> FastAPI:
    """The API as an ASGI application.

    ``integration``: every caller is the system's administrator, without credentials; serve it on loopback only, and
    never by default. Requests that a web page or a rebound host name could have caused are refused there.
    """
    commands()  # a command that is declared wrongly stops the start, not the first call
    app = FastAPI(title="Gatehouse", docs_url=None, redoc_url=None, openapi_url=None)
    limits = Limits()
    workers = anyio.CapacityLimiter(WORKERS)

    async def api(http: HttpRequest) -> HttpResponse:
        try:
            if integration:
                _check_local(http)
            request = await _read(http, trusted=integration)
        except ApiError as error:
            return _http(error_reply(error, json=b"response=json" in http.scope["query_string"].lower()))
        except ClientDisconnect:
            return HttpResponse(status_code=400)
        reply = await anyio.to_thread.run_sync(handle, runtime, limits, request, limiter=workers)
        return _http(reply, secure=http.scope["scheme"] == "https")

    add_starting_page(app, runtime, workers)
    for path in (PATH, f"{PATH}/"):
        app.add_api_route(path, api, methods=["GET", "POST", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS"])
    return app


async def _read(http: HttpRequest, *, trusted: bool) -> Request:
    """The parts of an HTTP request that count. Raises ApiError for what is too large or no form."""
    if http.method not in ("GET", "POST"):
        raise ApiError(f"{PATH} takes GET and POST", code=405, cs_code=9999)
    query: bytes = http.scope["query_string"]
    if len(query) > MAX_QUERY:
        raise ApiError(f"the query string is longer than {MAX_QUERY} bytes; send a POST form", code=414, cs_code=9999)
    body = bytearray()
    async for chunk in http.stream():
        body += chunk
        if len(body) > MAX_BODY:
            raise ApiError(f"the request body is larger than {MAX_BODY} bytes", code=413, cs_code=9999)
    content_type = http.headers.get("content-type", _FORM).partition(";")[0].strip().lower()
    if http.method == "GET":
        body.clear()  # a body on GET means nothing (RFC 9110, section 9.3.1)
    elif body and content_type != _FORM:
        raise ApiError(f"send parameters as {_FORM}, not {content_type[:60]!r}", code=415, cs_code=9999)
    address = http.client.host if http.client else ""
    return Request(http.method, query, bytes(body), http.cookies, address, trusted, origin_of(http))


def _check_local(http: HttpRequest) -> None:
    host = http.headers.get("host", "").rpartition(":")[0] or http.headers.get("host", "")
    host = host.strip("[]").lower()
    try:
        local = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        local = False
    from_page = http.headers.get("origin") or http.headers.get("sec-fetch-site", "none") not in ("none", "same-origin")
    if not local or from_page:
        raise ApiError("the integration port answers local programs only, not web pages", code=401, cs_code=9999)


def _http(reply: Reply, *, secure: bool = False) -> HttpResponse:
    response = HttpResponse(reply.body, reply.status, media_type=None)
    response.headers["content-type"] = reply.content_type
    response.headers["cache-control"] = "no-store"
    response.headers["x-content-type-options"] = "nosniff"
    if reply.description is not None:
        text = " ".join(reply.description.split()).encode("ascii", "replace").decode()
        response.headers["x-description"] = text[:1000]
    for name, value in reply.cookies.items():
        if value is None:
            response.delete_cookie(name, path="/client")
        else:
            response.set_cookie(name, value, path="/client", httponly=True, samesite="lax", secure=secure)
    return response
