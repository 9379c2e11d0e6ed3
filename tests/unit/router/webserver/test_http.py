from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.webserver.http import BadRequestError, Response, head, parse


def path(target: str) -> str:
    return parse(f"GET {target} HTTP/1.0".encode()).path


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("/latest/meta-data/", "/latest/meta-data"),
        ("/LATEST/User-Data", "/latest/user-data"),
        ("//latest///user-data//", "/latest/user-data"),
        ("/latest/user-data?v=1", "/latest/user-data"),
        ("http://10.1.1.1/latest/user-data", "/latest/user-data"),
        ("HTTP://data-server:80/latest", "/latest"),
        ("http://data-server", ""),
        ("/", ""),
        ("/..//latest", "/../latest"),
    ],
)
def test_path(target: str, expected: str) -> None:
    assert path(target) == expected


def test_fields() -> None:
    request = parse(b"PUT /x HTTP/1.1\r\nHost: a\r\nX-Thing:  two words \r\nContent-Length: 0")
    assert (request.method, request.fields["x-thing"]) == ("PUT", "two words")


@pytest.mark.parametrize(
    ("head_", "keep"),
    [
        (b"GET / HTTP/1.1\r\nHost: a", True),
        (b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Close", False),
        (b"GET / HTTP/1.0", False),
        (b"GET / HTTP/1.0\r\nConnection: Keep-Alive", True),
    ],
)
def test_keep_alive(head_: bytes, keep: bool) -> None:
    assert parse(head_).keep_alive is keep


@pytest.mark.parametrize(
    ("head_", "status"),
    [
        (b"", 400),
        (b"GET /", 400),
        (b"GET / FTP/1.0", 400),
        (b"GET / HTTP/2.0", 505),
        (b"GET  / HTTP/1.1\r\nHost: a", 400),
        (b"GET latest HTTP/1.0", 400),
        (b"GET ftp://a/b HTTP/1.0", 400),
        (b"CONNECT a:80 HTTP/1.0", 400),
        (b"GET / HTTP/1.1", 400),
        (b"GET / HTTP/1.0\r\nName : value", 400),
        (b"GET / HTTP/1.0\r\n folded", 400),
        (b"GET / HTTP/1.0\r\n: value", 400),
        (b"PUT / HTTP/1.0\r\nContent-Length: 5", 413),
        (b"PUT / HTTP/1.0\r\nContent-Length: x", 413),
        (b"PUT / HTTP/1.0\r\nTransfer-Encoding: chunked", 413),
    ],
)
def test_refused(head_: bytes, status: int) -> None:
    with pytest.raises(BadRequestError) as error:
        parse(head_)
    assert error.value.status == status


@given(st.binary(max_size=300))
def test_no_bytes_crash_the_parser(garbage: bytes) -> None:
    for text in (garbage, b"GET / HTTP/1.0\r\n" + garbage, b"GET " + garbage + b" HTTP/1.0"):
        try:
            parse(text)
        except BadRequestError:
            continue


def test_head() -> None:
    lines = head(Response(404, b"gone", fields="Allow: GET\r\n"), keep_alive=False).decode().split("\r\n")
    assert lines[0] == "HTTP/1.1 404 Not Found"
    assert {"Content-Type: text/plain", "Content-Length: 4", "Allow: GET", "Connection: close"} <= set(lines)
    assert lines[-2:] == ["", ""]
