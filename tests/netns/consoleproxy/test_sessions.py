"""Who gets a screen and for how long: tokens, origins, addresses, ends, and what the proxy reports of it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import Any

import pytest

from tests.certificates import self_signed
from tests.netns.consoleproxy.world import PERSON, PROXY, Screen, World
from tests.wait import wait_for

ORIGIN = f"https://{PROXY}"


@pytest.fixture(scope="module")
def screen(world: World) -> Screen:
    return world.screen()


def argv(path: str, *commands: str, origin: str = ORIGIN, cookie: str = "") -> list[str]:
    module = "tests.netns.consoleproxy.wsclient"
    return [sys.executable, "-m", module, f"{PROXY}:443", path, origin, cookie, *commands]


def results(text: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for line in text.splitlines():
        found.update(json.loads(line))
    return found


def socket(world: World, path: str, *commands: str, origin: str = ORIGIN, cookie: str = "") -> dict[str, Any]:
    """Open a socket as a page of ``origin`` does, run the commands; what came of it."""
    done = world.person.run(argv(path, *commands, origin=origin, cookie=cookie), timeout=120)
    return results(done.stdout)


def opened(world: World, path: str, *commands: str, cookie: str = "") -> subprocess.Popen[str]:
    """The same in the background; returns when the first command is done."""
    process = world.person.popen(argv(path, *commands, cookie=cookie))
    assert process.stdout is not None
    line = process.stdout.readline() + process.stdout.readline()
    found = results(line)
    assert found.get("status") == 101, found
    return process


def by(token: str) -> str:
    return f"/websockify?token={token}"


@pytest.mark.any_hypervisor
def test_a_token_is_used_once(world: World, screen: Screen) -> None:
    session, token = world.session(screen.target())
    first = socket(world, by(token), "screen")
    assert first["status"] == 101
    assert "servers" in first["screen"] or first["screen"]
    assert socket(world, by(token)) == {"status": 403, "cookie": ""}
    # and not after a restart of the relay either
    world.proxy.kill("console.relay")
    wait_for(lambda: socket(world, by(token))["status"] == 403, 20, "the relay is back")
    assert [record["client"] for record in world.records(session, "connected")] == [PERSON]


def test_a_hundred_at_once_use_it_once(world: World, screen: Screen) -> None:
    _, token = world.session(screen.target())
    racing = [world.person.popen(argv(by(token))) for _ in range(8)]
    statuses = [results(process.communicate(timeout=60)[0])["status"] for process in racing]
    assert sorted(statuses) == [101, *[403] * 7]


@pytest.mark.any_hypervisor
def test_who_used_it_comes_back(world: World, screen: Screen) -> None:
    session, token = world.session(screen.target())
    cookie = socket(world, by(token), "screen")["cookie"]
    assert cookie.startswith(f"__Host-console-{session}=")
    again = f"/websockify?session={session}"
    assert socket(world, again, "screen", cookie=cookie)["status"] == 101
    world.proxy.kill("console.relay")
    wait_for(lambda: socket(world, again, "screen", cookie=cookie).get("screen"), 20, "the way back after a restart")
    for wrong in ("", f"__Host-console-{session}=guessed", cookie.replace(session, "other")):
        assert socket(world, again, cookie=wrong)["status"] == 403
    world.remove(session)
    assert socket(world, again, cookie=cookie)["status"] == 403


def test_a_token_expires_unused(world: World, screen: Screen) -> None:
    session, token = world.session(screen.target(), seconds=-1)
    assert socket(world, by(token))["status"] == 403
    wait_for(lambda: world.records(session), 5, "a record")
    assert [(one["what"], one["reason"]) for one in world.records(session)] == [("ended", "expired unused")]


@pytest.mark.parametrize(
    "origin",
    ["", "https://evil.example", f"http://{PROXY}", f"https://{PROXY}:444", f"https://{PROXY}.evil.example", "null"],
)
def test_foreign_pages_get_nothing(world: World, screen: Screen, origin: str) -> None:
    session, token = world.session(screen.target())
    assert socket(world, by(token), origin=origin)["status"] == 403
    assert socket(world, by(token), "screen")["status"] == 101, "and have not used the token up"
    world.remove(session)


@pytest.mark.parametrize("origin", ["https://203-0-113-10.console.example", "https://cloud.example:8443"])
def test_origins_of_the_proxy_and_of_the_cloud(world: World, screen: Screen, origin: str) -> None:
    world.push(origins=["https://cloud.example:8443"])
    _, token = world.session(screen.target())
    assert socket(world, by(token), "screen", origin=origin)["screen"]


def test_bound_to_an_address(world: World, screen: Screen) -> None:
    _, token = world.session(screen.target(), policy={"client": "203.0.113.51"})
    assert socket(world, by(token))["status"] == 403
    _, token = world.session(screen.target(), policy={"client": PERSON})
    assert socket(world, by(token), "screen")["screen"]


def test_a_session_that_leaves_the_document_is_closed_at_once(world: World, screen: Screen) -> None:
    session, token = world.session(screen.target())
    process = opened(world, by(token), "screen", "code")
    world.remove(session)
    begin = time.monotonic()
    assert results(process.communicate(timeout=20)[0]) == {"code": 4000}
    assert time.monotonic() - begin < 5
    whats = [record["what"] for record in world.records(session)]
    assert whats == ["connected", "disconnected", "ended"]


def test_a_newer_connection_takes_over(world: World, screen: Screen) -> None:
    session, token = world.session(screen.target())
    process = world.person.popen(argv(by(token), "screen", "code"))
    assert process.stdout is not None
    cookie = results(process.stdout.readline())["cookie"]
    assert results(process.stdout.readline())["screen"]
    assert socket(world, f"/websockify?session={session}", "screen", cookie=cookie)["screen"]
    assert results(process.communicate(timeout=20)[0]) == {"code": 4003}


def test_limits(world: World, screen: Screen) -> None:
    world.push(idle_limit=2)
    session, token = world.session(screen.target())
    assert socket(world, by(token), "screen", "code")["code"] == 4001
    assert world.records(session, "ended")[0]["reason"] == "idle for too long"
    world.push(idle_limit=None, length_limit=2)
    _, token = world.session(screen.target())
    assert socket(world, by(token), "screen", "code")["code"] == 4002
    world.push(length_limit=None, reconnect_limit=1)
    session, token = world.session(screen.target())
    socket(world, by(token), "screen")
    wait_for(lambda: world.records(session, "ended"), 10, "nobody came back")
    assert world.records(session, "ended")[0]["reason"] == "nobody came back"
    world.push(reconnect_limit=300)


def test_no_more_than_the_maximum(world: World, screen: Screen) -> None:
    wait_for(lambda: world.report()["sessions"] == 0, 10, "nobody connected")
    world.push(session_max=1)
    _, token = world.session(screen.target())
    opened(world, by(token), "screen", "sleep 30")
    _, other = world.session(screen.target())
    assert socket(world, by(other))["status"] == 403
    world.person.kill(token)
    wait_for(lambda: world.report()["sessions"] == 0, 10, "room")
    assert socket(world, by(other), "screen")["screen"], "it was not used up"
    world.push(session_max=50)


def test_records_are_kept_until_they_are_taken_in(world: World) -> None:
    records = world.report()["records"]
    numbers = [record["number"] for record in records]
    assert numbers == sorted(set(numbers))
    world.proxy.kill("console.relay")
    wait_for(lambda: world.report()["records"] == records, 20, "the same records after a restart")
    world.push(acknowledged=numbers[-2])
    wait_for(lambda: [one["number"] for one in world.report()["records"]] == numbers[-1:], 10, "the rest")
    world.push(acknowledged=numbers[-1])
    session, _ = world.session({"kind": "vnc", "host": "10.9.0.1", "port": 1}, seconds=-1)
    wait_for(lambda: world.records(session), 10, "a new record")
    assert world.records(session)[0]["number"] > numbers[-1]


@pytest.mark.any_hypervisor
def test_certificates_change_while_a_session_goes_on(world: World, screen: Screen) -> None:
    _, token = world.session(screen.target())
    process = opened(world, by(token), "screen", "sleep 3", "send 0300000000000320" + "0258", "read 4")
    certificate, key = self_signed("new.example")
    world.push(certificate={"certificate": certificate, "key": key})
    shown = world.person.run(
        ["sh", "-c", f"openssl s_client -connect {PROXY}:443 </dev/null 2>/dev/null | openssl x509 -noout -subject"]
    ).stdout
    assert "new.example" in shown
    assert results(process.communicate(timeout=20)[0])["read"][:2] == "00", "the screen goes on"


def test_a_certificate_that_is_not_of_its_key_changes_nothing(world: World) -> None:
    before = world.state["console"]["certificate"]
    certificate, _ = self_signed("other.example")
    world.state["console"]["certificate"] = {**before, "certificate": certificate}
    status = world.proxy.push_document(world.proxy.document(world.state))
    assert status.attempt is not None
    assert status.attempt.outcome == "refused"
    assert "the certificate cannot be used with its key" in status.attempt.problems[0].message
    world.push(certificate=before)


def test_nothing_secret_is_logged(world: World, screen: Screen) -> None:
    _, token = world.session(screen.target())
    cookie = socket(world, by(token), "screen")["cookie"]
    socket(world, by(token))
    logs = world.proxy.text_logs()
    assert "session-" in logs
    assert token not in logs
    assert cookie.partition("=")[2] not in logs


@pytest.mark.parametrize(("sharing", "stays"), [("shared", True), ("exclusive", False)])
def test_sharing_is_the_clouds_to_say(world: World, screen: Screen, sharing: str, stays: bool) -> None:
    wait_for(lambda: world.report()["sessions"] == 0, 10, "nobody connected")
    _, token = world.session(screen.target())
    then = ["sleep 2", "send 03000000000003200258", "read 4"] if stays else ["code"]
    first = opened(world, by(token), "screen", *then)
    _, other = world.session(screen.target(), policy={"sharing": sharing})
    # the browser asks for the other way, and is not asked
    assert socket(world, by(other), f"screen {int(not stays)}")["screen"]
    found = results(first.communicate(timeout=30)[0])
    if stays:
        assert found["read"][:2] == "00"
    else:
        assert found["code"] == 4004
