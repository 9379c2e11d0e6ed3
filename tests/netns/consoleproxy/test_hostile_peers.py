"""What either side may do to the proxy: whatever it sends, and however it ends, only its own session notices."""

from __future__ import annotations

import json
import signal
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.netns.consoleproxy.test_limits import memory, relay
from tests.netns.consoleproxy.test_sessions import ORIGIN, argv, by, opened, results, socket
from tests.netns.consoleproxy.world import PROXY, SERVERS, Raw, Screen, World
from tests.unit.consoleproxy.rfb.test_client import HARMLESS, INPUT, PLACES, cut
from tests.unit.consoleproxy.rfb.test_client import text as client_text
from tests.unit.consoleproxy.rfb.test_server import INIT, MESSAGES, rectangle, text, update
from tests.wait import wait_for

PORT = 5800
SECRET = b"the guest's secret"
SERVER_GONE, INTERNAL, NO_SCREEN = 4004, 1011, 4005
NORMAL, PROTOCOL, UNSUPPORTED, BROKEN_OFF, TOO_BIG = 1000, 1002, 1003, 1006, 1009

#: what a server says without authentication in RFB 3.8: version, security types, result
HANDSHAKE = [b"RFB 003.008\n", b"\1\1", bytes(4)]
#: octets of the proxy's part: version, security type, ClientInit
ANSWERED = 12 + 1 + 1
#: what promises more than comes, or is nothing that there is
BROKEN = [
    update(rectangle(0, 65535, 65535)),
    update(rectangle(7, 65535, 65535, b"\x40\x01\xff")),
    update(rectangle(7, 9, 9, b"\xb0")),
    update(rectangle(16, 1, 1, b"\xff\xff\xff\xff")),
    update(rectangle(-239, 65535, 65535)),
    update(rectangle(5, 1, 1)),
    update(number=65535),
    text(b"", 0x7FFFFFFF),
    text(b"", -0x80000000),
    struct.pack("!BxxxIB", 248, 1, 255),
    struct.pack("!BxHH", 1, 0, 65535),
    b"\x63",
]
_garbage = st.binary(min_size=1, max_size=200)
_messages = st.lists(st.sampled_from([*MESSAGES, text(SECRET), *BROKEN]) | _garbage, max_size=8)
_inits = st.sampled_from([INIT, INIT[:20], struct.pack("!HH16sI", 0, 65535, bytes(16), 0xFFFFFFFF)]) | _garbage
_client_messages = st.lists(
    st.sampled_from([*HARMLESS, *INPUT, client_text(b"copied"), client_text(b"", 0x7FFFFFFF)]) | _garbage, max_size=8
)
_handshakes = st.just(HANDSHAKE) | st.lists(st.sampled_from(HANDSHAKE) | _garbage, max_size=4)


@dataclass
class Browser:
    """A browser with a session of its own that comes again and again."""

    process: subprocess.Popen[str]
    clipboard: bool

    def watch(self, **asked: Any) -> dict[str, Any]:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(json.dumps(asked) + "\n")
        self.process.stdin.flush()
        found: dict[str, Any] = json.loads(self.process.stdout.readline())
        return found


@pytest.fixture(scope="module")
def server(world: World) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "tests.netns.consoleproxy.hostile", "server", SERVERS, str(PORT)]
    process = world.servers.popen(command, stdin=subprocess.PIPE)
    assert process.stdout is not None and process.stdout.readline() == "listening\n"
    yield process
    process.kill()
    process.wait()


@pytest.fixture(scope="module")
def browsers(world: World, server: subprocess.Popen[str]) -> Iterator[list[Browser]]:
    """With and without a clipboard, and recorded."""
    target = {"kind": "vnc", "host": SERVERS, "port": PORT}
    made = []
    for policy in ({}, {"clipboard": False}, {"clipboard": False, "record": True}):
        say(server, HANDSHAKE, [INIT], reset=False)
        made.append(came(world, target, policy))
    yield made
    for browser in made:
        browser.process.kill()
        browser.process.wait()


def came(world: World, target: Raw, policy: Raw) -> Browser:
    """A browser that has been there once."""
    session, token = world.session(target, policy=policy)
    first = results(world.person.run(argv(by(token), "screen")).stdout)
    words = [f"{PROXY}:443", f"/websockify?session={session}", ORIGIN, first["cookie"]]
    module = "tests.netns.consoleproxy.hostile"
    process = world.person.popen([sys.executable, "-m", module, "browser", *words], stdin=subprocess.PIPE)
    return Browser(process, clipboard=not policy)


def say(
    server: subprocess.Popen[str], handshake: list[bytes], pieces: list[bytes], *, reset: bool, heard: int | None = None
) -> None:
    """What the server says to the next who comes; it waits for ``heard`` octets after its handshake, if it is one."""
    if heard is None:
        heard = ANSWERED if handshake == HANDSHAKE else 0
    asked = {
        "handshake": [piece.hex() for piece in handshake],
        "heard": heard,
        "pieces": [piece.hex() for piece in pieces],
        "reset": reset,
    }
    assert server.stdin is not None
    server.stdin.write(json.dumps(asked) + "\n")
    server.stdin.flush()


def test_whatever_a_server_sends(world: World, server: subprocess.Popen[str], browsers: list[Browser]) -> None:
    screen = world.screen()
    session, token = world.session(screen.target())
    bystander = opened(world, by(token), "screen", "code 600")
    before, size = at(world, session), memory(relay(world))
    outcomes: set[int] = set()

    @settings(max_examples=150, deadline=None)
    @given(_handshakes, _inits, _messages, PLACES, st.booleans(), st.sampled_from(browsers))
    def one(
        handshake: list[bytes], init: bytes, messages: list[bytes], places: list[int], reset: bool, browser: Browser
    ) -> None:
        sent = b"".join([init, *messages])
        say(server, handshake, cut(sent, places), reset=reset)
        found = browser.watch()
        outcomes.add(found["code"])
        if "refusal" in found:
            assert (found["refusal"], found["code"]) == ("The machine's screen cannot be reached now.", NO_SCREEN)
            return
        stream = bytes.fromhex(found["stream"])
        assert found["code"] in (SERVER_GONE, INTERNAL)
        if browser.clipboard:
            assert found["code"] == SERVER_GONE, "nothing of it is looked at"
            if handshake == HANDSHAKE:
                assert stream == sent or (reset and sent.startswith(stream))
        elif handshake == HANDSHAKE and init == INIT and SECRET in sent:
            # where everything before it keeps to the protocol it is left out, else nothing more comes
            known = all(message in MESSAGES or message == text(SECRET) for message in messages)
            assert not known or SECRET not in stream

    one()
    assert outcomes == {SERVER_GONE, INTERNAL, NO_SCREEN}
    assert bystander.poll() is None and at(world, session) == before, "another session goes on"
    assert memory(relay(world)) - size < 8
    assert "Traceback" not in world.proxy.text_logs()
    world.person.kill(token)


@pytest.mark.parametrize(
    ("handshake", "heard"),
    [
        ([b"RFB 003.003\n", struct.pack("!I", 1)], 12 + 1),
        ([b"RFB 003.005\n", struct.pack("!I", 1)], 12 + 1),
        ([b"RFB 003.007\n", b"\1\1"], 12 + 1 + 1),
        ([b"RFB 003.889\n", b"\2\1\2", bytes(4)], 12 + 1 + 1),
    ],
)
def test_versions(server: subprocess.Popen[str], browsers: list[Browser], handshake: list[bytes], heard: int) -> None:
    """Servers that speak an older RFB, or one of their own (macOS): browsers speak 3.8 in any case."""
    say(server, handshake, [INIT, MESSAGES[0]], reset=False, heard=heard)
    assert browsers[0].watch() == {"stream": (INIT + MESSAGES[0]).hex(), "code": SERVER_GONE}


def test_whatever_a_browser_sends(world: World) -> None:
    screen, other = world.screen("-AlwaysShared"), world.screen()
    session, token = world.session(other.target())
    bystander = opened(world, by(token), "screen", "code 600")
    before, size = at(world, session), memory(relay(world))
    browsers = [came(world, screen.target(), policy) for policy in ({}, {"clipboard": False}, {"view_only": True})]
    outcomes: set[int | None] = set()

    @settings(max_examples=60, deadline=None)
    @given(_client_messages, PLACES, st.binary(max_size=100), st.sampled_from(browsers))
    def one(messages: list[bytes], places: list[int], raw: bytes, browser: Browser) -> None:
        found = browser.watch(frames=[piece.hex() for piece in cut(b"".join(messages), places)], raw=raw.hex())
        outcomes.add(found["code"])

    one()
    for browser in browsers:
        browser.process.kill()
        browser.process.wait()
    # it breaks WebSocket's rules or RFB's; or it cannot be seen to; or the server takes offence
    assert {PROTOCOL, None} <= outcomes <= {PROTOCOL, UNSUPPORTED, TOO_BIG, SERVER_GONE, BROKEN_OFF, NORMAL, None}
    assert bystander.poll() is None and at(world, session) == before, "another session goes on"
    assert memory(relay(world)) - size < 8
    assert "Traceback" not in world.proxy.text_logs()
    world.person.kill(token)


def at(world: World, session: str) -> tuple[int, float]:
    """The relay's process, and when the session's connection began."""
    [connection] = [one for one in world.report()["open"] if one["session"] == session]
    return relay(world), connection["began"]


@contextmanager
def hanging(world: World, screen: Screen) -> Iterator[None]:
    """The screen's server is stopped meanwhile."""
    name = f"-rfbport {screen.port}"
    world.servers.kill(name, "STOP")
    try:
        yield
    finally:
        world.servers.kill(name, "CONT")
        for process in world.processes:
            # nsenter(1) stops with what it runs, and would not notice that it ends
            process.send_signal(signal.SIGCONT)


def test_a_server_that_hangs(world: World) -> None:
    screen = world.screen()
    _, token = world.session(screen.target())
    with hanging(world, screen):
        process = world.person.popen(argv(by(token), "refusal", "code"))
        found = results(process.communicate(timeout=40)[0])
        assert (found["refusal"], found["code"]) == ("The machine's screen cannot be reached now.", NO_SCREEN)


def test_a_server_that_hangs_while_it_is_written_to(world: World) -> None:
    """What waits for it costs little, and its sessions can be ended all the same."""
    screen, texts = world.screen("-AlwaysShared"), ["text 1000000"] * 20
    _, token = world.session(screen.target())
    assert socket(world, by(token), "screen", *texts, "send 03000000000003200258", "read 4")["read"][:2] == "00"
    size, writing = memory(relay(world)), {}
    for _ in range(3):
        session, token = world.session(screen.target())
        writing[session] = opened(world, by(token), "screen", "sleep 1", *texts * 10, "code 60")

    def received() -> int:
        return sum(one["received"] for one in world.report()["open"] if one["session"] in writing)

    seen: list[int] = []

    def stopped() -> bool:
        seen.append(received())
        return len(seen) > 20 and 300_000 < seen[-1] == seen[-20]

    with hanging(world, screen):
        wait_for(stopped, 30, "nothing more to be taken", interval=0.1)
        assert seen[-1] < 3 * 200 * 1_000_000
        assert (memory(relay(world)) - size) / len(writing) < 1
        for session in writing:
            world.remove(session)
        wait_for(lambda: not [one for one in world.report()["open"] if one["session"] in writing], 8, "their end")
        for process in writing.values():
            process.wait(20)
