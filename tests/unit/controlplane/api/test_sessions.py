"""Logging in with a password, and what a session may do."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest

from controlplane.api.sessions import BAD_LOGINS, Limiter
from controlplane.store.defaults import ADMIN_FILE
from controlplane.store.models import Session, now
from tests.control import Caller, FakeRuntime, Http, HttpAnswer, answer_of


@pytest.fixture
def password(runtime: FakeRuntime) -> str:
    """The administrator's, from the file that the first start wrote."""
    path = runtime.data / ADMIN_FILE
    assert path.stat().st_mode & 0o777 == 0o600
    text: str = json.loads(path.read_text())["password"]
    return text


def _login(http: Http, password: str, **more: str) -> HttpAnswer:
    return http.post({"command": "login", "username": "admin", "password": password, "response": "json"} | more)


def _cookies(answer: HttpAnswer) -> str:
    return "; ".join(f"{name}={value}" for name, value in answer.cookies.items())


def test_login_call_and_logout(http: Http, password: str) -> None:
    answer = _login(http, password)
    assert answer.status_code == 200
    body = answer_of(answer.json())
    assert set(body) == {
        *("username", "userid", "domainid", "timeout", "account", "firstname", "lastname", "type", "timezone"),
        *("timezoneoffset", "registered", "sessionkey"),
    }
    assert (body["account"], body["type"], body["registered"], body["timeout"]) == ("admin", "1", "false", 1800)
    assert set(answer.cookies) == {"JSESSIONID", "sessionkey"}
    header = answer.headers["set-cookie"].lower()
    assert "httponly" in header and "samesite=lax" in header

    cookie, key = _cookies(answer), body["sessionkey"]
    query = {"command": "listZones", "response": "json", "sessionkey": key}
    assert http.get(query, cookie=cookie).status_code == 200
    # the cookie alone is what a page of somebody else's could make a browser send
    assert http.get({"command": "listZones"}, cookie=cookie).status_code == 401
    assert http.get(query | {"sessionkey": "x"}, cookie=cookie).status_code == 401
    assert http.get(query).status_code == 401

    assert http.get({"command": "logout", "response": "json"}, cookie=cookie).status_code == 200
    assert http.get(query, cookie=cookie).status_code == 401


def test_get_is_refused(http: Http, password: str) -> None:
    answer = http.get({"command": "login", "username": "admin", "password": password, "response": "json"})
    assert answer.status_code == 405
    assert password not in answer.text


@pytest.mark.parametrize("more", [{"username": "nobody"}, {"password": "x"}, {"domain": "/other"}, {"domainId": "x"}])
def test_bad_logins_look_alike(http: Http, password: str, more: dict[str, str]) -> None:
    answer = _login(http, **({"password": password} | more))
    assert answer.status_code == 531
    assert answer_of(answer.json())["errortext"].startswith("Failed to authenticate user")
    assert not answer.cookies


def test_guessing_is_stopped(http: Http, password: str) -> None:
    for _ in range(BAD_LOGINS):
        assert _login(http, "wrong").status_code == 531
    assert _login(http, password).status_code == 429


def test_a_session_expires(http: Http, password: str, runtime: FakeRuntime) -> None:
    answer = _login(http, password)
    query = {"command": "listZones", "sessionkey": answer_of(answer.json())["sessionkey"]}
    with runtime.database.transaction() as session:
        session.query(Session).one().expires = now() - timedelta(seconds=1)
    assert http.get(query, cookie=_cookies(answer)).status_code == 401


def test_calls_keep_a_session_alive(http: Http, password: str, runtime: FakeRuntime) -> None:
    answer = _login(http, password)
    query = {"command": "listZones", "sessionkey": answer_of(answer.json())["sessionkey"]}
    with runtime.database.transaction() as session:
        session.query(Session).one().expires = now() + timedelta(seconds=30)
    assert http.get(query, cookie=_cookies(answer)).status_code == 200
    with runtime.database.reading() as session:
        assert session.query(Session).one().expires > now() + timedelta(seconds=1700)


def test_the_database_has_no_tokens(http: Http, password: str, runtime: FakeRuntime) -> None:
    answer = _login(http, password)
    stored = b"".join(path.read_bytes() for path in runtime.data.glob("gatehouse.db*"))
    for token in (*answer.cookies.values(), password):
        assert token.encode() not in stored


def test_a_new_password_ends_sessions(http: Http, admin: Caller, password: str) -> None:
    domain = admin("listDomains")["domain"][0]["id"]
    user = admin(
        "createAccount", username="u", password="old-one", email="e", firstname="f", lastname="l", domainid=domain
    )["account"]["user"][0]
    answer = _login(http, "old-one", username="u")
    query = {"command": "listZones", "sessionkey": answer_of(answer.json())["sessionkey"]}
    assert http.get(query, cookie=_cookies(answer)).status_code == 200
    admin("updateUser", id=user["id"], password="new-one")
    assert http.get(query, cookie=_cookies(answer)).status_code == 401
    assert _login(http, "new-one", username="u").status_code == 200


def test_the_limiter_counts_in_windows() -> None:
    clock = [0.0]
    limiter = Limiter(lambda: clock[0])
    assert [limiter.add("a", 10)[0] for _ in range(3)] == [1, 2, 3]
    assert limiter.count("b", 10)[0] == 0
    clock[0] = 9.0
    assert limiter.count("a", 10) == (3, 1.0)
    clock[0] = 10.0
    assert limiter.count("a", 10)[0] == 0
    assert limiter.add("a", 10)[0] == 1
