"""As much of HTTP/1.1 as guests need that fetch something small (RFC 9110, RFC 9112): requests without a body."""

from __future__ import annotations

import time
from dataclasses import dataclass

#: octets that the request line and the header fields may take
MOST_HEAD = 8192
END = b"\r\n\r\n"

_REASONS = {
    200: "OK",
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    413: "Content Too Large",
    429: "Too Many Requests",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    503: "Service Unavailable",
    505: "HTTP Version Not Supported",
}


class BadRequestError(Exception):
    """The request cannot be understood, so where the next one begins is not known. ``status`` is the answer."""

    def __init__(self, status: int) -> None:
        self.status = status
        super().__init__(_REASONS[status])


@dataclass(frozen=True, slots=True)
class Request:
    """``path`` is in lower case, without query and without a slash at its end; names of ``fields`` are lower case."""

    method: str
    path: str
    fields: dict[str, str]
    keep_alive: bool


@dataclass(frozen=True, slots=True)
class Response:
    """``fields`` are further header lines, each with its line end. ``hops``: how far its packets travel (IP TTL)."""

    status: int
    body: bytes = b""
    kind: str = "text/plain"
    fields: str = ""
    hops: int | None = None


def _path(target: str) -> str:
    if not target.startswith("/"):
        # absolute-form, as sent by a client that takes us for a proxy: RFC 9112 section 3.2.2
        scheme, separator, rest = target.partition("://")
        if not separator or scheme.lower() != "http":
            raise BadRequestError(400)
        target = "/" + rest.partition("/")[2]
    path = target.partition("?")[0].lower()
    while "//" in path:
        path = path.replace("//", "/")
    return path.rstrip("/")


def parse(head: bytes) -> Request:
    """The request in ``head``, which ends before the empty line. Raises BadRequestError."""
    line, *lines = head.decode("latin-1").split("\r\n")
    parts = line.split(" ")
    if len(parts) != 3 or not parts[0].isalpha():
        raise BadRequestError(400)
    method, target, version = parts
    if version not in ("HTTP/1.1", "HTTP/1.0"):
        raise BadRequestError(505 if version.startswith("HTTP/") else 400)
    fields: dict[str, str] = {}
    for field in lines:
        name, separator, value = field.partition(":")
        if not separator or not name or name != name.strip():
            raise BadRequestError(400)
        fields[name.lower()] = value.strip()
    modern = version == "HTTP/1.1"
    if modern and "host" not in fields:
        raise BadRequestError(400)
    if "transfer-encoding" in fields or fields.get("content-length", "0") != "0":
        raise BadRequestError(413)
    wish = fields.get("connection", "").lower()
    keep_alive = "close" not in wish if modern else "keep-alive" in wish
    return Request(method, _path(target), fields, keep_alive)


_date: tuple[int, str] = (0, "")


def _now() -> str:
    global _date  # noqa: PLW0603  formatted once a second, not once a response
    second = int(time.time())
    if _date[0] != second:
        _date = (second, time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(second)))
    return _date[1]


def head(response: Response, *, keep_alive: bool) -> bytes:
    """Status line and header fields, up to where the body begins."""
    return (
        f"HTTP/1.1 {response.status} {_REASONS[response.status]}\r\nDate: {_now()}\r\n"
        f"Content-Type: {response.kind}\r\nContent-Length: {len(response.body)}\r\n{response.fields}"
        f"Connection: {'keep-alive' if keep_alive else 'close'}\r\n\r\n"
    ).encode("latin-1")
