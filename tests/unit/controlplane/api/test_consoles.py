"""createConsoleEndpoint and what goes with it: who may, what is told, when it is closed."""

from __future__ import annotations

import json
import logging
from dataclasses import replace

import pytest
from sqlalchemy import select

from controlplane.api.passwords import token_hash
from controlplane.api.signing import sign, texts_to_sign
from controlplane.store.models import Appliance, ConsoleSession, User, Vm, Zone
from controlplane.systemvms import rows as systemvms
from tests.acting import ActingRuntime, Tenant
from tests.control import answer_of


@pytest.fixture
def vm(bob: Tenant) -> str:
    network = bob.network()
    return str(bob.vm(networkids=network["id"], name="web1")["id"])


def opened(acting: ActingRuntime, session_id: str) -> str:
    """What the proxy's report makes of a session; the id of the proxy."""
    with acting.database.transaction() as session:
        proxy = systemvms.create(session, session.scalars(select(Zone)).one(), "consoleproxy")
        row = session.get_one(ConsoleSession, session_id)
        row.appliance_id, row.state = proxy.id, "Open"
        return proxy.id


def row_of(acting: ActingRuntime, session_id: str) -> ConsoleSession:
    with acting.database.reading() as session:
        return session.get_one(ConsoleSession, session_id)


def test_the_answer_has_the_shape_that_clients_know(bob: Tenant, acting: ActingRuntime, vm: str) -> None:
    response = bob.call.raw("createConsoleEndpoint", virtualmachineid=vm)
    [(key, answer)] = json.loads(response.content).items()
    assert key == "createconsoleendpointresponse"
    console = answer["consoleendpoint"]
    socket = console["websocket"]
    assert console["success"] is True
    assert console["url"] == f"https://203.0.113.9/console/?token={socket['token']}"
    assert {name: socket[name] for name in ("host", "port", "path")} == {
        "host": "203.0.113.9",
        "port": "443",
        "path": "websockify",
    }
    # 256 bits
    assert len(socket["token"]) == 43
    [session_id] = acting.opened
    row = row_of(acting, session_id)
    assert row.token_hash == token_hash(socket["token"])
    assert row.policy == {"view_only": False, "clipboard": True, "sharing": "shared", "record": False}


def test_a_token_is_told_once_and_nowhere_else(
    bob: Tenant, acting: ActingRuntime, vm: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        token = bob.call("createConsoleEndpoint", virtualmachineid=vm)["consoleendpoint"]["websocket"]["token"]
    assert token not in caplog.text
    assert token not in bob.call.raw("listConsoleSessions", listall=True).text
    assert token not in bob.call.raw("listEvents", listall=True).text
    again = bob.call("createConsoleEndpoint", virtualmachineid=vm)["consoleendpoint"]["websocket"]["token"]
    assert again != token


def test_a_page_waits_for_a_proxy_that_is_being_started(bob: Tenant, acting: ActingRuntime, vm: str) -> None:
    acting.starting = True
    console = bob.call("createConsoleEndpoint", virtualmachineid=vm)["consoleendpoint"]
    assert console["success"] is True and "websocket" not in console
    page, _, token = console["url"].partition("#")
    # browsers do not send what is behind the #
    assert page == "http://127.0.0.1:8080/client/console" and len(token) == 43
    http = bob.call.http

    def ready(body: bytes) -> dict[str, str]:
        found: dict[str, str] = http.request("POST", path="/client/console/ready", body=body).json()
        return found

    question = json.dumps({"token": token}).encode()
    assert ready(question) == {"state": "starting"}
    acting.starting = False
    assert ready(question) == {"state": "ready", "url": f"https://203.0.113.9/console/?token={token}"}
    for wrong in (b"", b"[]", b'{"token": 3}', b'{"token": "guessed"}', b" " * 4096 + question):
        assert ready(wrong) == {"state": "failed", "detail": "not valid any more"}
    for path, kind in (("", "text/html"), (".js", "text/javascript"), (".css", "text/css")):
        answer = http.request("GET", path=f"/client/console{path}")
        assert answer.status_code == 200 and answer.headers["content-type"] == f"{kind}; charset=utf-8"
        assert "default-src 'none'; script-src 'self'" in answer.headers["content-security-policy"]
        assert answer.headers["content-security-policy"].endswith("; frame-ancestors 'none'")
        assert answer.headers["referrer-policy"] == "no-referrer"
    with acting.database.transaction() as session:
        acting.configuration.set(session, "consoleproxy.frame.ancestors", "'self', https://cloud.example")
    policy = http.request("GET", path="/client/console").headers["content-security-policy"]
    assert policy.endswith("; frame-ancestors 'self' https://cloud.example")


@pytest.mark.parametrize("host", ["evil.example/path", "a b", "<script>", ""])
def test_a_host_that_is_none_gets_into_no_link(bob: Tenant, acting: ActingRuntime, vm: str, host: str) -> None:
    acting.starting = True
    sent = {"command": "createConsoleEndpoint", "virtualmachineid": vm, "response": "json", "apikey": bob.call.key}
    sent["signature"] = sign(texts_to_sign(sent.items())[0], bob.call.secret)
    console = answer_of(bob.call.http.get(sent, host=host).json())["consoleendpoint"]
    assert console["url"].startswith("/client/console#")


def test_nobody_sees_another_tenant_s_screen(tenant: Tenant, bob: Tenant, acting: ActingRuntime) -> None:
    theirs = tenant.vm(networkids=tenant.network()["id"])["id"]
    assert bob.call.error("createConsoleEndpoint", virtualmachineid=theirs)["errorcode"] == 531
    unknown = "00000000-0000-4000-8000-00000000dead"
    assert bob.call.error("createConsoleEndpoint", virtualmachineid=unknown)["errorcode"] == 431
    assert acting.opened == []


def test_only_a_running_machine_has_a_console(bob: Tenant, vm: str) -> None:
    bob.run("stopVirtualMachine", id=vm)
    error = bob.call.error("createConsoleEndpoint", virtualmachineid=vm)
    assert error["errorcode"] == 431 and "is Stopped; only a running one" in error["errortext"]


def test_policy_by_parameter_and_setting(bob: Tenant, tenant: Tenant, acting: ActingRuntime, vm: str) -> None:
    tenant.call("updateConfiguration", name="consoleproxy.session.bind.address", value="true")
    tenant.call("updateConfiguration", name="consoleproxy.session.record", value="true")
    bob.call("createConsoleEndpoint", virtualmachineid=vm, viewonly=True, exclusive=True)
    assert row_of(acting, acting.opened[-1]).policy == {
        "view_only": True,
        "clipboard": False,
        "sharing": "exclusive",
        "record": True,
        "client": "127.0.0.1",
    }


def test_who_watched_what(bob: Tenant, tenant: Tenant, acting: ActingRuntime, vm: str) -> None:
    bob.call("createConsoleEndpoint", virtualmachineid=vm, viewonly=True)
    tenant.call("createConsoleEndpoint", virtualmachineid=vm)
    [seen] = bob.call("listConsoleSessions")["consolesession"]
    assert (seen["user"], seen["account"], seen["virtualmachineid"]) == ("bob", "bob", vm)
    assert (seen["state"], seen["viewonly"], seen["consoleendpointcreatoraddress"]) == ("Pending", True, "127.0.0.1")
    assert "acquired" not in seen and "removed" not in seen
    listed = tenant.call("listConsoleSessions", listall=True, virtualmachineid=vm)
    assert listed["count"] == 2
    assert {one["user"] for one in listed["consolesession"]} == {"admin", "bob"}
    assert tenant.call("listConsoleSessions", listall=True, acquired=True) == {}
    opened(acting, seen["id"])
    with acting.database.transaction() as session:
        session.get_one(ConsoleSession, seen["id"]).state = "Ended"
    assert tenant.call("listConsoleSessions", listall=True, activeonly=True)["count"] == 1


def test_an_administrator_closes_a_console(bob: Tenant, tenant: Tenant, acting: ActingRuntime, vm: str) -> None:
    bob.call("createConsoleEndpoint", virtualmachineid=vm)
    [session_id] = acting.opened
    proxy_id = opened(acting, session_id)
    assert tenant.call("deleteConsoleSession", id=session_id) == {"success": "true"}
    row = row_of(acting, session_id)
    assert (row.state, row.reason) == ("Closing", "closed by user admin")
    assert acting.woken[-1] == proxy_id
    with acting.database.reading() as session:
        # the next document is without it
        assert session.get_one(Appliance, proxy_id).desired_generation == 1


def test_a_tenant_does_not_close_another_one_s(bob: Tenant, tenant: Tenant, acting: ActingRuntime) -> None:
    theirs = tenant.vm(networkids=tenant.network()["id"])["id"]
    tenant.call("createConsoleEndpoint", virtualmachineid=theirs)
    assert bob.call.error("deleteConsoleSession", id=acting.opened[0])["errorcode"] == 531


def test_disabling_a_user_closes_the_consoles(bob: Tenant, tenant: Tenant, acting: ActingRuntime, vm: str) -> None:
    bob.call("createConsoleEndpoint", virtualmachineid=vm)
    [session_id] = acting.opened
    opened(acting, session_id)
    tenant.call("disableUser", id=row_of(acting, session_id).user_id)
    assert row_of(acting, session_id).reason == "the user was disabled"


def test_logging_out_closes_the_consoles_of_that_login(bob: Tenant, acting: ActingRuntime, vm: str) -> None:
    with acting.database.reading() as session:
        [name] = session.scalars(select(User.username).where(User.username == "bob"))
    logins = []
    for _ in range(2):
        login = bob.call.http.post(
            {"command": "login", "username": name, "password": "secret-1234", "response": "json"}
        )
        cookie = login.cookies["JSESSIONID"]
        key = answer_of(login.json())["sessionkey"]
        given = {"command": "createConsoleEndpoint", "virtualmachineid": vm, "sessionkey": key, "response": "json"}
        assert bob.call.http.get(given, cookie=f"JSESSIONID={cookie}").status_code == 200
        logins.append((cookie, acting.opened[-1]))
    (cookie, first), (_, second) = logins
    proxy_id = opened(acting, first)
    bob.call.http.get({"command": "logout", "response": "json"}, cookie=f"JSESSIONID={cookie}")
    assert row_of(acting, first).reason == "the user logged out"
    assert row_of(acting, second).state == "Pending"
    assert proxy_id in acting.woken


def test_the_machine_s_name_is_free_text(bob: Tenant, acting: ActingRuntime, vm: str) -> None:
    with acting.database.transaction() as session:
        session.get_one(Vm, vm).display_name = "<script>\n\u202e"
    bob.call("createConsoleEndpoint", virtualmachineid=vm)
    [seen] = bob.call("listConsoleSessions")["consolesession"]
    assert seen["virtualmachinename"] == "<script>\n\u202e"


def test_a_tenant_does_not_take_all_the_room(bob: Tenant, tenant: Tenant, vm: str) -> None:
    tenant.limit("bob", "max.account.console.sessions", 2)
    for _ in range(2):
        bob.call("createConsoleEndpoint", virtualmachineid=vm)
    assert bob.call.error("createConsoleEndpoint", virtualmachineid=vm)["errorcode"] == 532


def test_only_what_was_recorded_is_played_back(bob: Tenant, tenant: Tenant, acting: ActingRuntime, vm: str) -> None:
    bob.call("createConsoleEndpoint", virtualmachineid=vm)
    bob.call("createConsoleEndpoint", virtualmachineid=vm, record=True)
    plain, recorded = acting.opened
    with acting.database.transaction() as session:
        for session_id in (plain, recorded):
            session.get_one(ConsoleSession, session_id).acquired = session.get_one(Vm, vm).created
    bob.run("stopVirtualMachine", id=vm)
    assert bob.call.error("createConsoleEndpoint", virtualmachineid=vm, recordingid=plain)["errorcode"] == 431
    bob.call("createConsoleEndpoint", virtualmachineid=vm, recordingid=recorded, recordingpart=2)
    assert acting.played == [(recorded, 2)]
    # it is no screen of the guest, which has none now
    assert row_of(acting, acting.opened[-1]).target == {"kind": "recording"}
    theirs = tenant.vm(networkids=tenant.network()["id"])["id"]
    assert tenant.call.error("createConsoleEndpoint", virtualmachineid=theirs, recordingid=recorded)["errorcode"] == 431


def test_recordings_are_listed_and_an_administrator_deletes_them(
    bob: Tenant, tenant: Tenant, acting: ActingRuntime, vm: str
) -> None:
    bob.call("createConsoleEndpoint", virtualmachineid=vm, record=True)
    [recorded] = acting.opened
    for began, content in ((1_700_000_060, b"second"), (1_700_000_000, b"first")):
        acting.recordings.take(f"{recorded}.{began}", len(content), lambda offset: content[offset:])  # noqa: B023
    [shown] = bob.call("listConsoleSessions", id=recorded)["consolesession"]
    assert shown["recordings"] == [
        {"part": 1, "created": "2023-11-14T22:13:20+0000", "size": 5},
        {"part": 2, "created": "2023-11-14T22:14:20+0000", "size": 6},
    ]
    assert bob.call.error("deleteConsoleRecording", id=recorded)["errorcode"] == 432
    assert "is Pending" in tenant.call.error("deleteConsoleRecording", id=recorded)["errortext"]
    tenant.call("deleteConsoleSession", id=recorded)
    tenant.call("deleteConsoleRecording", id=recorded)
    assert acting.recordings.of_session(recorded) == []


def test_a_console_is_not_bound_to_an_address_that_no_proxy_has(bob: Tenant, tenant: Tenant, vm: str) -> None:
    tenant.call("updateConfiguration", name="consoleproxy.session.bind.address", value="true")
    caller = replace(bob.call, http=replace(bob.call.http, client="2001:db8::1"))
    assert "came from 2001:db8::1" in caller.error("createConsoleEndpoint", virtualmachineid=vm)["errortext"]
