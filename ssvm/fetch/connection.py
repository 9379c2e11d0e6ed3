"""One HTTP exchange with a pinned address: connect, by a proxy or without, and GET."""

from __future__ import annotations

import http.client
import socket
import ssl
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Address
from urllib.parse import urljoin, urlsplit

from appliance import VERSION
from ssvm.errors import ConnectionLostError, JobFailedError
from ssvm.fetch.addresses import Reach, Resolve, addresses

#: seconds for a connection, and for TLS on it
CONNECT_SECONDS = 15.0
MOST_REDIRECTS = 10
REDIRECTS = (301, 302, 303, 307, 308)
#: answers of servers that are in trouble for a while
PASSING = (408, 425, 429, 500, 502, 503, 504)


@dataclass(frozen=True)
class Way:
    """How downloads get out. ``stall``: seconds without a byte after which a connection is lost."""

    reach: Reach
    resolve: Resolve
    context: ssl.SSLContext
    stall: float = 60.0
    #: ``http://host:port``
    proxy: str | None = None
    #: name that the server's certificate must have; None: the URL's host
    server_name: str | None = None


class _Pinned(http.client.HTTPConnection):
    """A connection to the first of ``at`` that answers; ``host`` is only what is told to the server.

    http.client looks nothing up when ``sock`` is there, so no name is resolved a second time.
    """

    def __init__(self, host: str, port: int, at: Sequence[IPv4Address], way: Way, secure: bool) -> None:
        super().__init__(host, port, timeout=way.stall)
        self._at, self._way, self._secure = at, way, secure

    def connect(self) -> None:
        proxy = urlsplit(self._way.proxy) if self._way.proxy else None
        if proxy is not None and proxy.hostname is not None:
            at = addresses(proxy.hostname, self._way.reach, self._way.resolve)
            sock = _connected(at, proxy.port or 3128)
            _through(sock, self._at[0], self.port)
        else:
            sock = _connected(self._at, self.port)
        if self._secure:
            sock = self._way.context.wrap_socket(sock, server_hostname=self._way.server_name or self.host)
        sock.settimeout(self._way.stall)
        self.sock = sock


def _connected(at: Sequence[IPv4Address], port: int) -> socket.socket:
    last: OSError | None = None
    for address in at:
        try:
            return socket.create_connection((str(address), port), timeout=CONNECT_SECONDS)
        except OSError as error:
            last = error
    assert last is not None
    raise last


def _through(sock: socket.socket, address: IPv4Address, port: int) -> None:
    """Have the proxy connect to ``address``: it resolves nothing either. Raises OSError."""
    sock.sendall(f"CONNECT {address}:{port} HTTP/1.1\r\nHost: {address}:{port}\r\n\r\n".encode())
    answer = b""
    while not answer.endswith(b"\r\n\r\n"):
        octet = sock.recv(1)  # not one octet of what comes behind the answer
        if not octet or len(answer) > 65_536:
            raise ConnectionLostError("the proxy does not answer CONNECT")
        answer += octet
    status = answer.split(b" ", 2)[1:2]
    if status != [b"200"]:
        line = answer.partition(b"\r\n")[0].decode(errors="replace")
        raise ConnectionLostError(f"the proxy refuses to connect: {line}")


@dataclass
class Answer:
    """A response whose body is to be read; ``url`` is the one that gave it, after redirects."""

    url: str
    response: http.client.HTTPResponse
    connection: http.client.HTTPConnection

    def header(self, name: str) -> str:
        return self.response.getheader(name) or ""

    def close(self) -> None:
        self.response.close()
        self.connection.close()


def get(
    url: str,
    way: Way,
    headers: Mapping[str, str],
    *,
    downgrade: bool = False,
    opened: Callable[[Callable[[], None]], None] = lambda shutdown: None,
) -> Answer:
    """GET ``url``, following redirects; each hop's address is checked anew. The status may be any but a redirect's.

    ``downgrade``: redirects from https to http are followed. ``opened`` is told how to end each connection.
    Raises ConnectionLostError and JobFailedError.
    """
    for _ in range(MOST_REDIRECTS + 1):
        answer = _exchange(url, way, headers, opened)
        if answer.response.status not in REDIRECTS:
            return answer
        location = answer.header("Location")
        answer.close()
        following = urljoin(url, location)
        if not location or urlsplit(following).scheme not in ("http", "https"):
            raise JobFailedError("http", f"{_host(url)} redirects to something that is no http or https URL")
        if url.startswith("https:") and not following.startswith("https:") and not downgrade:
            raise JobFailedError("http", f"{_host(url)} redirects from https to http; give a checksum to allow that")
        url = following.partition("#")[0]
    raise JobFailedError("http", f"{_host(url)}: more than {MOST_REDIRECTS} redirects")


def _host(url: str) -> str:
    return urlsplit(url).hostname or url


def _exchange(url: str, way: Way, headers: Mapping[str, str], opened: Callable[[Callable[[], None]], None]) -> Answer:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise JobFailedError("http", f"a redirect leads to an unusable URL: {error}") from error
    if host is None or not url.isascii() or any(character in url for character in " \r\n\t"):
        raise JobFailedError("http", "a redirect leads to an unusable URL")
    if "[" in parts.netloc:
        raise JobFailedError("refused-address", f"{parts.netloc} is an IPv6 address; only IPv4 is reached")
    secure = parts.scheme == "https"
    port = port or (443 if secure else 80)
    at = addresses(host, way.reach, way.resolve)
    connection = _Pinned(host, port, at, way, secure)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    own = {"User-Agent": f"Gatehouse/{VERSION}", "Accept": "*/*", "Accept-Encoding": "identity", "Connection": "close"}
    try:
        connection.connect()
        sock = connection.sock

        def shutdown() -> None:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

        opened(shutdown)
        connection.request("GET", target, headers={**own, **headers})
        return Answer(url, connection.getresponse(), connection)
    except ssl.SSLCertVerificationError as error:
        connection.close()
        raise JobFailedError(
            "connection", f"the certificate of {host} is not trusted: {error.verify_message}"
        ) from error
    except (OSError, http.client.HTTPException, ConnectionLostError) as error:
        connection.close()
        raise ConnectionLostError(f"{host}: {_reason(error)}") from error
    except BaseException:
        connection.close()
        raise


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return str(error.strerror or error) if isinstance(error, OSError) else str(error) or type(error).__name__
