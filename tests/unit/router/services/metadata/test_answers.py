from __future__ import annotations

import time
from pathlib import Path

import pytest

from router.services.metadata import tokens
from router.services.metadata.answers import answer
from router.services.metadata.content import Guest
from router.webserver.http import Request, Response

ADDRESS, KEY = "10.1.1.10", b"k" * 32
PAGES = {"/latest/meta-data": b"instance-id", "/latest/instance-id": b"i-1", "/latest/user-data": b"\0"}
OPEN, STRICT = Guest(PAGES, token=False), Guest(PAGES, token=True)
TTL = "x-aws-ec2-metadata-token-ttl-seconds"


def ask(guest: Guest | None, path: str, method: str = "GET", address: str = ADDRESS, **fields: str) -> Response:
    named = {name.replace("_", "-"): value for name, value in fields.items()}
    return answer(Request(method, path, named, True), guest, address, lambda: KEY)


def test_pages() -> None:
    assert ask(OPEN, "/latest/instance-id") == Response(200, b"i-1")
    assert ask(OPEN, "/latest/user-data").kind == "application/octet-stream"
    assert ask(OPEN, "/latest/nothing").status == 404


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
@pytest.mark.parametrize("path", ["/latest/instance-id", "/latest/api/token", "/x"])
def test_stranger_learns_nothing(path: str, method: str) -> None:
    assert ask(None, path, method) == ask(None, "/anything")


def test_methods() -> None:
    assert ask(OPEN, "/latest/instance-id", "POST").fields == "Allow: GET, HEAD\r\n"
    assert ask(OPEN, "/latest/api/token").fields == "Allow: PUT\r\n"
    assert ask(OPEN, "/latest/api/token", "POST").status == 405


@pytest.mark.parametrize("ttl", ["x_aws_ec2_metadata_token_ttl_seconds", "x_metadata_token_ttl_seconds"])
@pytest.mark.parametrize("name", ["x_aws_ec2_metadata_token", "x_metadata_token"])
def test_token(ttl: str, name: str) -> None:
    issued = ask(STRICT, "/latest/api/token", "PUT", **{ttl: "60"})
    assert issued.status == 200 and f"{TTL}: 60\r\n" in issued.fields
    token = issued.body.decode()
    assert ask(STRICT, "/latest/instance-id", **{name: token}).body == b"i-1"
    assert ask(STRICT, "/latest/instance-id", address="10.1.1.11", **{name: token}).status == 401
    assert ask(STRICT, "/latest/instance-id", **{name: token[:-2] + "AA"}).status == 401


def test_missing_and_wrong_tokens() -> None:
    assert ask(STRICT, "/latest/instance-id").status == 401
    # a token that is shown must be good, required or not
    assert ask(OPEN, "/latest/instance-id", x_metadata_token="made up").status == 401
    assert ask(OPEN, "/latest/instance-id", x_metadata_token="ä").status == 401
    # whether a page is there is not told either
    assert ask(STRICT, "/latest/nothing").status == 401


@pytest.mark.parametrize("ttl", ["0", "21601", "", "x", "+5", "٣", "1e3", "9" * 6])
def test_lifetime(ttl: str) -> None:
    assert ask(OPEN, "/latest/api/token", "PUT", x_metadata_token_ttl_seconds=ttl).status == 400
    assert ask(OPEN, "/latest/api/token", "PUT").status == 400


def test_no_token_for_a_proxy() -> None:
    response = ask(OPEN, "/latest/api/token", "PUT", x_metadata_token_ttl_seconds="60", x_forwarded_for="192.0.2.1")
    assert response.status == 403


def test_token_expires(monkeypatch: pytest.MonkeyPatch) -> None:
    token = tokens.issue(KEY, ADDRESS, 60)
    assert tokens.valid(KEY, ADDRESS, token)
    assert not tokens.valid(b"o" * 32, ADDRESS, token)
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + 61)
    assert not tokens.valid(KEY, ADDRESS, token)


def test_key_is_kept(tmp_path: Path) -> None:
    file = tmp_path / "run/key"
    key = tokens.load_key(file)
    assert len(key) == 32 and tokens.load_key(file) == key
    assert file.stat().st_mode & 0o777 == 0o600
    assert list(file.parent.iterdir()) == [file]
