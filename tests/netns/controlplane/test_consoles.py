"""Consoles through the API: a person outside sees a real VNC server's screen through a real console proxy."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest
from cs import CloudStack, CloudStackApiException

from appliance.run import run
from controlplane.hypervisors.base import ConsoleTarget
from tests.netns.consoleproxy.browser import browser, page, reach_from_here, wait_state
from tests.netns.controlplane import screens
from tests.netns.controlplane.cloud import INTERNET, Cloud, connected
from tests.wait import wait_for

Answer = dict[str, Any]

CLIENT = (Path(__file__).parent / "rfb_client.py").read_text()
ADDRESS, PORT, PASSWORD = "169.254.0.1", 5901, "pass1234"


@dataclass
class Person:
    """Somebody outside with a client."""

    cloud: Cloud

    def run(self, console: Answer, **more: Any) -> subprocess.Popen[str]:
        socket = console["websocket"]
        host = more.get("host", socket["host"])
        asked = {"host": host, "token": socket["token"], "ca": self.authority(), "origin": f"https://{socket['host']}"}
        process = subprocess.Popen(
            self.cloud.instances.command(INTERNET, ["python3", "-c", CLIENT]),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stdin is not None
        process.stdin.write(json.dumps(asked | more))
        process.stdin.close()
        return process

    def open(self, console: Answer, **more: Any) -> Answer:
        """What the client saw at first."""
        process = self.run(console, **more)
        assert process.stdout is not None and process.stderr is not None
        line = process.stdout.readline()
        if not line:
            raise AssertionError(process.stderr.read())
        process.wait(20)
        seen: Answer = json.loads(line)
        return seen

    def authority(self) -> str:
        text = (self.cloud.data / "pki/authority.pem").read_text()
        return text[text.index("-----BEGIN CERTIFICATE") :]


@pytest.fixture(scope="module")
def cloud() -> Iterator[Cloud]:
    with connected(screens.SERVE) as made:
        server = _serve_screens(made)
        try:
            yield made
        finally:
            server.terminate()
            server.wait(10)


def _serve_screens(cloud: Cloud) -> subprocess.Popen[bytes]:
    """A VNC server where a hypervisor's host has those of its guests: on the host's address of the control network."""
    passwords = cloud.data / "vnc-passwords"
    hashed = subprocess.run(["vncpasswd", "-f"], input=PASSWORD.encode(), capture_output=True, check=True).stdout
    passwords.write_bytes(hashed)
    [fabric] = (cloud.data / "namespace").rglob("net")
    inside = ["nsenter", f"--net={fabric}"]
    # the socket for X programs is out of everybody's sight
    alone = [
        "unshare",
        "-m",
        "sh",
        "-c",
        'mkdir -p /tmp/.X11-unix && mount -t tmpfs x /tmp/.X11-unix && exec "$@"',
        "x",
    ]
    options = ["-rfbport", str(PORT), "-interface", ADDRESS, "-geometry", "640x480", "-desktop", "the guest's screen"]
    security = ["-SecurityTypes", "VncAuth", "-PasswordFile", str(passwords), "-AlwaysShared"]
    server = subprocess.Popen(
        [*inside, *alone, "Xtigervnc", ":1", "-nolock", "-nolisten", "local", *options, *security],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    listening = [*inside, "ss", "-Hltn"]
    wait_for(lambda: f"{ADDRESS}:{PORT}" in run(listening).stdout, 20, "the VNC server")
    return server


@pytest.fixture(scope="module")
def person(cloud: Cloud) -> Person:
    return Person(cloud)


@pytest.fixture(scope="module")
def tenant(cloud: Cloud) -> CloudStack:
    return cloud.tenant("alice")


@pytest.fixture(scope="module")
def vm(cloud: Cloud, tenant: CloudStack) -> str:
    made = cloud.deploy(tenant, "web1", cloud.network(tenant, "net"))
    target = ConsoleTarget(ADDRESS, PORT, "vnc", password=PASSWORD)
    (cloud.data / screens.FILE).write_text(json.dumps({made["id"]: asdict(target)}))
    return str(made["id"])


def console_of(api: CloudStack, vm: str, **more: Any) -> Answer:
    made: Answer = api.createConsoleEndpoint(virtualmachineid=vm, **more)["consoleendpoint"]
    return made


def first_console_of(api: CloudStack, vm: str, **more: Any) -> Answer:
    """The same where a proxy has to start first, which may take longer than a call waits."""

    def ready() -> Answer:
        made = console_of(api, vm, **more)
        assert made.get("websocket"), made
        return made

    return wait_for(ready, 60, "a console", interval=0.5)


def sessions_of(api: CloudStack, **more: Any) -> list[Answer]:
    """The newest first."""
    found: list[Answer] = api.listConsoleSessions(listall="true", **more).get("consolesession", [])
    return found


def proxies(cloud: Cloud) -> list[Answer]:
    found: list[Answer] = cloud.admin.listSystemVms(systemvmtype="consoleproxy").get("systemvm", [])
    return found


def test_the_first_console_brings_a_proxy_and_shows_the_screen(
    cloud: Cloud, tenant: CloudStack, person: Person, vm: str
) -> None:
    assert proxies(cloud) == []
    begun = time.monotonic()
    console = first_console_of(tenant, vm)
    print(f"first console after {time.monotonic() - begun:.2f} s")
    assert person.open(console) == {"status": 101, "width": 640, "height": 480, "screen": "the guest's screen"}
    [proxy] = proxies(cloud)
    assert (proxy["state"], proxy["agentstate"], proxy["publicip"]) == ("Running", "Up", console["websocket"]["host"])
    # the token was good for one use
    assert person.open(console) == {"status": 403}
    begun = time.monotonic()
    console = console_of(tenant, vm)
    print(f"second console after {time.monotonic() - begun:.2f} s")
    assert person.open(console)["status"] == 101
    assert len(proxies(cloud)) == 1


def test_who_watched_and_for_how_long(cloud: Cloud, tenant: CloudStack, person: Person, vm: str) -> None:
    console = console_of(tenant, vm)
    person.open(console)
    session = sessions_of(tenant)[0]
    wait_for(lambda: sessions_of(tenant, id=session["id"])[0]["state"] == "Open", 15, "the proxy's report")
    wait_for(lambda: sessions_of(tenant, id=session["id"])[0]["bytessent"] > 0, 15, "the proxy's report of the end")
    seen = sessions_of(tenant, id=session["id"])[0]
    assert (seen["user"], seen["virtualmachineid"], seen["clientaddress"]) == ("alice", vm, "203.0.113.1")
    assert seen["bytesreceived"] > 0
    [text] = [text for text in cloud_events(tenant, "VNC.CONNECT") if "203.0.113.1" in text][:1]
    assert "web1" in text and "user alice" in text
    assert "bytes sent" in cloud_events(tenant, "VNC.DISCONNECT")[0]
    # nothing secret is written anywhere
    token = console["websocket"]["token"]
    for path in (cloud.log, *cloud.data.glob("gatehouse.db*"), *cloud.data.glob("workflows.db*")):
        content = path.read_bytes()
        assert token.encode() not in content and PASSWORD.encode() not in content, path


def cloud_events(api: CloudStack, type: str) -> list[str]:
    return [event["description"] for event in api.listEvents(type=type, listall="true").get("event", [])]


def test_a_recorded_console_is_played_back(cloud: Cloud, tenant: CloudStack, person: Person, vm: str) -> None:
    assert person.open(console_of(tenant, vm, record="true"), hold=2)["status"] == 101
    recorded = sessions_of(tenant)[0]
    assert recorded["recorded"] is True
    wait_for(lambda: sessions_of(tenant, id=recorded["id"])[0]["bytessent"] > 0, 15, "the end to be reported")
    seen = person.open(console_of(tenant, vm, recordingid=recorded["id"]))
    assert (seen["status"], seen["width"], seen["height"]) == (101, 640, 480)
    # it is kept here, whatever becomes of the proxy that made it
    [kept] = sessions_of(tenant, id=recorded["id"])[0]["recordings"]
    assert kept["part"] == 1 and kept["size"] > 50
    [proxy] = proxies(cloud)
    cloud.admin.destroySystemVm(id=proxy["id"])
    seen = person.open(first_console_of(tenant, vm, recordingid=recorded["id"]))
    assert (seen["status"], seen["width"]) == (101, 640)
    wait_for(lambda: sessions_of(tenant, id=recorded["id"])[0]["state"] == "Ended", 15, "the session to be over")
    cloud.admin.deleteConsoleRecording(id=recorded["id"])
    with pytest.raises(CloudStackApiException, match="has no recording 1"):
        console_of(tenant, vm, recordingid=recorded["id"])


def test_another_tenant_s_screen_and_another_origin_are_refused(
    cloud: Cloud, tenant: CloudStack, person: Person, vm: str
) -> None:
    with pytest.raises(CloudStackApiException) as refused:
        console_of(cloud.tenant("mallory"), vm)
    assert refused.value.error["errorcode"] == 531
    assert person.open(console_of(tenant, vm), origin="https://evil.example") == {"status": 403}


def test_an_open_console_is_closed_at_once(cloud: Cloud, tenant: CloudStack, person: Person, vm: str) -> None:
    for end in ("by an administrator", "by stopping the guest"):
        process = person.run(console_of(tenant, vm), hold=30)
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["status"] == 101
        session = sessions_of(tenant)[0]
        if end == "by an administrator":
            cloud.admin.deleteConsoleSession(id=session["id"])
        else:
            tenant.stopVirtualMachine(id=vm, forced="true")
        ended = json.loads(process.stdout.readline())
        process.wait(10)
        assert ended["ended"] == "closed", end
        wait_for(lambda: sessions_of(tenant, id=session["id"])[0]["state"] == "Ended", 15, "the end")  # noqa: B023
    with pytest.raises(CloudStackApiException, match="only a running one"):
        console_of(tenant, vm)
    tenant.startVirtualMachine(id=vm)
    assert person.open(console_of(tenant, vm))["status"] == 101


def test_a_rebooted_proxy_has_its_sessions(cloud: Cloud, tenant: CloudStack, person: Person, vm: str) -> None:
    console = console_of(tenant, vm)
    proxy = next(one for one in proxies(cloud) if one["publicip"] == console["websocket"]["host"])
    cloud.admin.rebootSystemVm(id=proxy["id"], forced="true")
    # asked for before, opened after
    assert person.open(console)["status"] == 101


def test_a_killed_proxy_comes_back_by_itself(cloud: Cloud, tenant: CloudStack, person: Person, vm: str) -> None:
    proxy = proxies(cloud)[0]
    process = cloud.instances._process(proxy["id"])
    assert process is not None
    os.kill(process.pid, signal.SIGKILL)
    assert person.open(first_console_of(tenant, vm))["status"] == 101
    # who had to wait for long may have got another one meanwhile
    wait_for(lambda: ("Up", proxy["id"]) in [(one["agentstate"], one["id"]) for one in proxies(cloud)], 60, "it")


def test_a_destroyed_proxy_is_replaced(cloud: Cloud, tenant: CloudStack, person: Person, vm: str) -> None:
    before = {one["id"] for one in proxies(cloud)}
    for proxy_id in before:
        cloud.admin.destroySystemVm(id=proxy_id)
    console = first_console_of(tenant, vm)
    assert person.open(console)["status"] == 101
    assert not before & {one["id"] for one in proxies(cloud)}


def test_another_proxy_starts_before_the_first_is_full_and_idle_ones_go(
    cloud: Cloud, tenant: CloudStack, person: Person, vm: str
) -> None:
    _without_proxies(cloud)
    _set(cloud, {"session.max": "2", "capacity.standby": "2", "loadscan.interval": "500", "idle.wait": "1"})
    try:
        first = first_console_of(tenant, vm)
        watching = [person.run(first, hold=60)]
        wait_for(lambda: [one["agentstate"] for one in proxies(cloud)] == ["Up", "Up"], 60, "another proxy")
        # the guest's second console is where its first is, the third where there is room
        consoles = [first]
        for _ in range(2):
            consoles.append(console_of(tenant, vm))
            watching.append(person.run(consoles[-1], hold=60))
        for process in watching:
            assert process.stdout is not None and json.loads(process.stdout.readline())["status"] == 101
        first_host, second_host, third_host = (one["websocket"]["host"] for one in consoles)
        assert first_host == second_host != third_host
        for process in watching:
            process.kill()
            process.wait()
        for session in sessions_of(cloud.admin, activeonly="true"):
            cloud.admin.deleteConsoleSession(id=session["id"])
        wait_for(lambda: proxies(cloud) == [], 60, "idle proxies to go")
    finally:
        _set(cloud, {"session.max": "50", "capacity.standby": "10", "idle.wait": "1800"})


def _without_proxies(cloud: Cloud) -> None:
    """Nobody watches, and there is no proxy; one that is destroyed would be built again."""
    _set(cloud, {"disabled": "true", "loadscan.interval": "500"})
    wait_for(lambda: proxies(cloud) == [], 60, "no proxy", interval=0.5)
    _set(cloud, {"disabled": "false"})


def _set(cloud: Cloud, settings: dict[str, str]) -> None:
    for name, value in settings.items():
        cloud.admin.updateConfiguration(name=f"consoleproxy.{name}", value=value)


def test_the_minimum_is_there_before_anybody_asks(cloud: Cloud, tenant: CloudStack, person: Person, vm: str) -> None:
    _without_proxies(cloud)
    _set(cloud, {"minimum": "1", "loadscan.interval": "500"})
    wait_for(lambda: [one["agentstate"] for one in proxies(cloud)] == ["Up"], 60, "a proxy")
    # the first call is answered
    assert person.open(console_of(tenant, vm))["status"] == 101


def test_a_page_waits_for_a_proxy_and_shows_the_screen_then(
    cloud: Cloud, tenant: CloudStack, vm: str, tmp_path: Path
) -> None:
    _set(cloud, {"minimum": "0"})
    _without_proxies(cloud)
    hold = cloud.data / screens.HOLD
    hold.touch()

    console = console_of(tenant, vm)
    assert "websocket" not in console
    token = console["url"].partition("#")[2]
    with browser(cloud.instances.command(INTERNET, []), tmp_path) as chromium, page(chromium) as opened:
        reach_from_here(opened, f"http://127.0.0.1:{cloud.port}/**")
        opened.goto(console["url"])
        assert opened.locator("#heading").inner_text() == "Starting"
        assert token not in opened.url
        # a reload goes on waiting
        opened.reload()
        assert opened.locator("#heading").inner_text() == "Starting"
        hold.unlink()
        wait_state(opened, "connected", 60)
        assert opened.url.startswith("https://203.0.113.") and token not in opened.url
        assert opened.locator("#name").inner_text() == "web1"
        # the way back does not lead to a link that was used
        opened.goto(console["url"])
        wait_for(lambda: opened.locator("#heading").inner_text() == "The console cannot be opened", 10, "the end")
    assert token not in cloud.text_log()


def test_an_uploaded_certificate_is_shown_without_closing_sessions(
    cloud: Cloud, tenant: CloudStack, person: Person, vm: str, tmp_path: Path
) -> None:
    domain = "console.example.com"
    pem, key, authority = certificate_for(f"*.{domain}")
    held = person.run(console_of(tenant, vm), hold=6)
    assert held.stdout is not None and json.loads(held.stdout.readline())["status"] == 101
    cloud.admin.updateConfiguration(name="consoleproxy.url.domain", value=f"*.{domain}")
    cloud.admin.uploadCustomCertificate(certificate=authority, id=1, name="root", domainsuffix=domain)
    cloud.admin.uploadCustomCertificate(certificate=pem, privatekey=key, domainsuffix=domain)
    console = console_of(tenant, vm)
    shown = {f"{one['publicip'].replace('.', '-')}.{domain}": one for one in proxies(cloud)}
    name = console["websocket"]["host"]
    proxy = shown[name]
    # the proxy is the name server of that domain
    asked = cloud.run(INTERNET, ["dig", "+short", f"@{proxy['publicip']}", name, "A"]).stdout.split()
    assert asked == [proxy["publicip"]]
    seen = person.open(console, host=proxy["publicip"], name=name, origin=f"https://{name}", ca=authority)
    assert seen["status"] == 101
    assert json.loads(held.stdout.readline())["ended"] == "still open"
    held.wait(10)


def certificate_for(name: str) -> tuple[str, str, str]:
    """A certificate, its key and the authority that signed it, PEM."""
    from cryptography.hazmat.primitives.asymmetric import ec

    from tests.unit.controlplane.api.test_systemvms import pem, signed

    root, site = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    return (
        signed("site", site, "root", root, names=(name,)),
        pem(site),
        signed("root", root, "root", root, authority=True),
    )
