"""From a request to its answer: who may read what.

Session tokens follow EC2's version 2 of the instance metadata service, so that its clients work:
``PUT /latest/api/token`` with ``X-aws-ec2-metadata-token-ttl-seconds: 1..21600`` answers a token; requests show it in
``X-aws-ec2-metadata-token``. The same without the vendor, ``X-Metadata-Token-TTL-Seconds`` and ``X-Metadata-Token``,
is understood too. A guest may always use tokens; ``Guest.token`` says that it must.
"""

from __future__ import annotations

from collections.abc import Callable

from router.services.metadata.content import ROOT, USER_DATA, Guest, MissingError
from router.webserver.http import Request, Response

TOKEN_PATH = f"{ROOT}/api/token"
TTL_FIELDS = ("x-aws-ec2-metadata-token-ttl-seconds", "x-metadata-token-ttl-seconds")
TOKEN_FIELDS = ("x-aws-ec2-metadata-token", "x-metadata-token")

NOT_FOUND = Response(404, b"not found\n")


def _first(request: Request, names: tuple[str, ...]) -> str | None:
    return next((request.fields[name] for name in names if name in request.fields), None)


def _issue(request: Request, address: str, key: Callable[[], bytes]) -> Response:
    # a proxy that is open to the world adds this field; a program that asks for itself does not
    if "x-forwarded-for" in request.fields:
        return Response(403, b"not through a proxy\n")
    from router.services.metadata import tokens  # its hashes are 4 MB that most routers never need

    wanted = _first(request, TTL_FIELDS) or ""
    seconds = int(wanted) if wanted.isascii() and wanted.isdigit() and len(wanted) <= 5 else 0
    if not 1 <= seconds <= tokens.MOST_SECONDS:
        return Response(400, f"{TTL_FIELDS[0]} must be 1 to {tokens.MOST_SECONDS}\n".encode())
    fields = "".join(f"{name}: {seconds}\r\n" for name in TTL_FIELDS)
    # a token must not travel on through a guest that forwards packets
    return Response(200, tokens.issue(key(), address, seconds).encode(), fields=fields, hops=1)


def _authorised(request: Request, guest: Guest, address: str, key: Callable[[], bytes]) -> bool:
    token = _first(request, TOKEN_FIELDS)
    if token is None:
        return not guest.token
    from router.services.metadata import tokens

    return tokens.valid(key(), address, token)


def _page(guest: Guest, path: str) -> Response:
    try:
        body = guest.page(path)
    except MissingError:
        return Response(503, b"try again\n", fields="Retry-After: 1\r\n")
    if body is None:
        return NOT_FOUND
    return Response(200, body, "application/octet-stream" if path == USER_DATA else "text/plain")


def answer(request: Request, guest: Guest | None, address: str, key: Callable[[], bytes]) -> Response:
    """What the guest at ``address`` gets for ``request``; a ``guest`` of None is not one of ours and learns nothing.

    ``key`` gives the key that tokens are signed with.
    """
    if guest is None:
        return NOT_FOUND
    allowed = ("PUT",) if request.path == TOKEN_PATH else ("GET", "HEAD")
    if request.method not in allowed:
        names = ", ".join(allowed)
        return Response(405, f"{names} only\n".encode(), fields=f"Allow: {names}\r\n")
    if request.path == TOKEN_PATH:
        return _issue(request, address, key)
    if not _authorised(request, guest, address, key):
        return Response(401, f"PUT {TOKEN_PATH} gives the token that is needed\n".encode())
    return _page(guest, request.path)
