"""What people who mean harm can do to the relay from outside: nothing that others notice."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from consoleproxy.services.console.render import BY_ONE, USER
from controlplane.hypervisors.namespace.processes import members
from tests.netns.consoleproxy.test_sessions import argv, by, opened, results, socket
from tests.netns.consoleproxy.world import PERSON, PROXY, SERVERS, Screen, World
from tests.wait import wait_for


@pytest.fixture(scope="module")
def screen(world: World) -> Screen:
    return world.screen()


def relay(world: World) -> int:
    """The relay's process as the machine numbers it."""
    init = world.lab.hypervisor._process(world.proxy.id)
    assert init is not None
    [found] = [pid for pid in members(init.pid) if "console.relay" in Path(f"/proc/{pid}/cmdline").read_text()]
    return found


def memory(pid: int) -> float:
    """MiB that are the process's own."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return sum(int(kb) for kb in re.findall(r"^Private_\w+:\s+(\d+) kB", text, re.MULTILINE)) / 1024


def request(world: World, *lines: str) -> str:
    """An HTTP request as it stands; the answer."""
    text = "".join(f"{line}\r\n" for line in lines) + "\r\n"
    argv = ["openssl", "s_client", "-quiet", "-connect", f"{PROXY}:443"]
    return world.person.run(["timeout", "5", *argv], stdin=text, check=False).stdout


@pytest.mark.parametrize(
    "path",
    [
        "//evil.example/console/",
        "/console/../../../etc/passwd",
        "/console/novnc/1.7.0/%2e%2e/%2e%2e/package.json",
        "/console//console.js",
        "/console/%00",
        "/console/novnc/1.7.0/package.json",
        "http://evil.example/",
    ],
)
def test_paths_lead_nowhere(world: World, path: str) -> None:
    answer = request(world, f"GET {path} HTTP/1.1", f"Host: {PROXY}", "Connection: close")
    assert re.match(r"HTTP/1.1 (400|404) ", answer), answer[:200]
    assert "Location" not in answer
    assert "root:" not in answer


def test_a_redirect_is_to_this_page_whatever_was_asked(world: World) -> None:
    path = "/console?token=a%0d%0aSet-Cookie:%20b=c"
    answer = request(world, f"GET {path} HTTP/1.1", "Host: evil.example", "Connection: close")
    assert "308" in answer.splitlines()[0]
    assert "Location: /console/?token=a%0d%0aSet-Cookie:%20b=c" in answer
    assert "evil" not in answer


def test_no_compression_is_agreed_to(world: World, screen: Screen) -> None:
    _, token = world.session(screen.target())
    answer = request(
        world,
        f"GET {by(token)} HTTP/1.1",
        f"Host: {PROXY}",
        f"Origin: https://{PROXY}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
        "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits",
    )
    assert answer.startswith("HTTP/1.1 101")
    assert "Sec-WebSocket-Extensions" not in answer


def test_headers(world: World) -> None:
    world.push(frame_ancestors=["https://cloud.example"])
    answer = request(world, "GET /console/ HTTP/1.1", f"Host: {PROXY}", "Connection: close")
    head = answer.partition("\r\n\r\n")[0]
    assert "frame-ancestors https://cloud.example" in head
    assert "default-src 'none'; script-src 'self'" in head
    assert "unsafe" not in head
    assert "Referrer-Policy: no-referrer" in head
    assert "nosniff" in head
    world.push(frame_ancestors=[])
    assert "frame-ancestors 'none'" in request(world, "GET /console/ HTTP/1.1", f"Host: {PROXY}", "Connection: close")


def test_novnc_is_served_with_its_licence(world: World) -> None:
    url = f"https://{PROXY}/console/novnc/1.7.0"
    package = Path(__file__).parents[3] / "consoleproxy/services/console/page/node_modules/@novnc/novnc"
    for name in ("core/rfb.js", "LICENSE.txt", "docs/LICENSE.MPL-2.0"):
        status, body = world.person.http(f"{url}/{name}", "-k")
        assert (status, body) == (200, (package / name).read_text())


def test_slow_requests_are_cut_off_and_hold_nobody_up(world: World, screen: Screen) -> None:
    program = """
import socket, ssl, sys, time
context = ssl.create_default_context(); context.check_hostname = False; context.verify_mode = ssl.CERT_NONE
held = []
for number in range(60):
    one = socket.create_connection((sys.argv[1], 443))
    if number % 3:
        one = context.wrap_socket(one)
        one.sendall(b"GET /console/ HTTP/1.1\\r\\nHost: x\\r\\nX-A: ")
    held.append(one)
print("held", flush=True)
began = time.monotonic()
open_ = held[:]
while open_ and time.monotonic() < began + 60:
    for one in list(open_):
        try:
            one.send(b"a")
            one.settimeout(0.01)
            if one.recv(100) == b"": raise OSError
        except TimeoutError: pass
        except OSError: open_.remove(one)
    time.sleep(0.5)
print(len(open_), time.monotonic() - began, flush=True)
"""
    process = world.person.popen([sys.executable, "-c", program, PROXY])
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    _, token = world.session(screen.target())
    # from the same address there is still room for one more, and others are not concerned at all
    status, _ = world.servers.http("https://127.0.0.1:1/", "-k", timeout=1)
    assert status == 0
    assert socket(world, by(token), "screen")["screen"]
    left, seconds = process.communicate(timeout=90)[0].split()
    assert int(left) == 0
    assert float(seconds) < 45


def test_a_browser_that_does_not_end_its_handshake_is_let_go(world: World, screen: Screen) -> None:
    session, token = world.session(screen.target())
    assert socket(world, by(token), "send 524642203030332e303038", "code 30")["code"] == 4005
    log = world.proxy.logs()["console.log"]
    assert f"session {session}: no screen of vm-1: the browser did not end its handshake within 15 s" in log


def test_a_gigabyte_of_clipboard(world: World, screen: Screen) -> None:
    pid = relay(world)
    before = memory(pid)
    _, token = world.session(screen.target())
    found = socket(world, by(token), "screen", f"text {1 << 30}", "send 03000000000000010001", "read 4")
    assert found["read"][:2] == "00", "the session goes on, without that text"
    assert memory(pid) - before < 4


def test_a_browser_that_does_not_read_costs_a_megabyte(world: World, screen: Screen) -> None:
    pid = relay(world)
    screen.x("xsetroot", "-mod", "3", "5", "-fg", "#123456", "-bg", "#fedcba")
    _, warm = world.session(screen.target())
    socket(world, by(warm), "screen", "update 20", "read 1000000")
    before = memory(pid)
    stalled = []
    for _ in range(4):
        _, token = world.session(screen.target())
        opened(world, by(token), "screen", "update 200", "sleep 60")
        stalled.append(token)
    wait_for(lambda: all(one["sent"] > 100_000 for one in world.report()["open"]), 30, "a screen on its way")
    sent: list[int] = []

    def stopped() -> bool:
        sent.append(sum(one["sent"] for one in world.report()["open"]))
        return len(sent) > 20 and sent[-1] == sent[-20]

    wait_for(stopped, 30, "nothing more to be sent", interval=0.1)
    assert (memory(pid) - before) / len(stalled) < 1
    for token in stalled:
        world.person.kill(token)


def test_pings_of_a_browser_that_does_not_read_cost_nothing(world: World, screen: Screen) -> None:
    pid = relay(world)
    _, token = world.session(screen.target())
    before = memory(pid)
    process = opened(world, by(token), "screen", "pings 200000", "sleep 30")
    assert process.stdout is not None
    assert results(process.stdout.readline()) == {"pings": None}, "all were taken"
    assert memory(pid) - before < 2
    world.person.kill(token)


def test_a_flood_of_handshakes_leaves_the_others_alone(world: World, screen: Screen) -> None:
    program = """
import socket, ssl, sys, threading, time
context = ssl.create_default_context(); context.check_hostname = False; context.verify_mode = ssl.CERT_NONE
ended, done = time.monotonic() + float(sys.argv[2]), [0]
def flood():
    while time.monotonic() < ended:
        try:
            with socket.create_connection((sys.argv[1], 443), 1) as plain, context.wrap_socket(plain):
                done[0] += 1
        except OSError: pass
flooding = [threading.Thread(target=flood) for _ in range(40)]
print("begun", flush=True)
for one in flooding: one.start()
for one in flooding: one.join()
print(done[0], flush=True)
"""
    stranger = world.lab.host("stranger", world.public, ["203.0.113.66/24"])
    process = stranger.popen([sys.executable, "-c", program, PROXY, "6"])
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    _, token = world.session(screen.target())
    assert socket(world, by(token), "screen", "send 03000000000003200258", "read 4")["read"][:2] == "00"
    handshakes = int(process.communicate(timeout=60)[0])
    (rate, burst) = BY_ONE
    assert 0 < handshakes <= burst + 10 * rate


def test_the_relay_reaches_the_screens_of_its_sessions_and_nothing_else(world: World, screen: Screen) -> None:
    other = world.screen()
    world.session(screen.target())
    program = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 5)"

    def reaches(address: str, port: int) -> bool:
        argv = ["setpriv", "--reuid", USER, "--regid", USER, "--clear-groups", "/usr/bin/python3", "-c", program]
        return world.proxy.ok([*argv, address, str(port)])

    assert reaches(SERVERS, screen.port)
    control = world.proxy.address
    for address, port in ((SERVERS, other.port), (PERSON, 22), ("127.0.0.1", 443), (control, 9443)):
        assert not reaches(address, port)
    # the machine itself could
    assert world.proxy.ok(["/usr/bin/python3", "-c", program, SERVERS, str(other.port)])


@pytest.mark.parametrize(
    "broken",
    [
        "c3" + "80" + "00000000",  # reserved bits
        "8205" + "68656c6c6f",  # no mask
        "8181" + "00000000" + "61",  # text
        "8281" + "00000000" + "63",  # RFB message of type 99
        "8289" + "00000000" + "f80000000000000041" + "00",  # a fence that is too long
        "8882",  # half a close frame, then nothing
    ],
)
def test_nonsense_ends_its_own_session_only(world: World, screen: Screen, broken: str) -> None:
    _, token = world.session(screen.target())
    bystander = opened(world, by(token), "screen", "sleep 2", "send 03000000000003200258", "read 4")
    _, token = world.session(screen.target())
    process = world.person.popen(argv(by(token), "screen", f"raw {broken}", "code 3"))
    out = process.communicate(timeout=30)[0]
    if broken != "8882":
        assert results(out)["code"] in (1002, 1003)
    assert results(bystander.communicate(timeout=30)[0])["read"][:2] == "00"
