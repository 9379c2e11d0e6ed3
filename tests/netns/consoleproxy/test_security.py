"""The proxy ends the security of real VNC servers: TigerVNC's and QEMU's."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from typing import Any

import pytest

from tests.certificates import self_signed
from tests.netns.consoleproxy.test_sessions import argv, by, socket
from tests.netns.consoleproxy.world import SERVERS, Raw, Screen, World
from tests.wait import wait_for

NAME = "vnc.example"


@dataclass(frozen=True)
class Pair:
    """The servers' certificate; who trusts it trusts the server."""

    certificate: str
    key: str


@pytest.fixture(scope="module")
def pair(world: World) -> Pair:
    certificate, key = self_signed(NAME)
    world.servers.run(["mkdir", "-p", "/run/x509"])
    for name, text in (("ca-cert.pem", certificate), ("server-cert.pem", certificate), ("server-key.pem", key)):
        world.servers.write(f"/run/x509/{name}", text)
    return Pair(certificate, key)


def shown(world: World, target: Raw) -> dict[str, Any]:
    """Whether a browser gets a screen of ``target``, or what it is told."""
    _, token = world.session(target)
    found = socket(world, by(token), "screen")
    assert found["status"] == 101
    return found


def refused(world: World, target: Raw, reason: str) -> None:
    """The browser is told nothing but that there is no screen; the log has the reason."""
    session, token = world.session(target)
    found = socket(world, by(token), "refusal", "code")
    assert (found["refusal"], found["code"]) == ("The machine's screen cannot be reached now.", 4005)
    log = world.proxy.logs()["console.log"]
    [line] = [line for line in log.splitlines() if f"session {session}: no screen" in line]
    assert reason in line


def password_file(world: World, password: str) -> str:
    path = f"/run/password-{password}"
    world.servers.run(["sh", "-c", f"printf '{password}\\n' | tigervncpasswd -f >{path}"])
    return path


# ---- TigerVNC


def test_tigervnc_password(world: World) -> None:
    screen = world.screen("-rfbauth", password_file(world, "s3cret"), security="VncAuth")
    assert shown(world, screen.target(security="vnc", password="s3cret"))["screen"]
    refused(world, screen.target(security="vnc", password="wrong"), "lets nobody in: 'Authentication fail")
    refused(world, screen.target(), "offers VNC authentication, and not none")


def tigervnc(world: World, pair: Pair, security: str, *options: str) -> Screen:
    files = ("-X509Cert", "/run/x509/server-cert.pem", "-X509Key", "/run/x509/server-key.pem")
    return world.screen(*files, *options, security=security)


def test_tigervnc_x509(world: World, pair: Pair) -> None:
    screen = tigervnc(world, pair, "X509None")
    trusted = {"security": "vencrypt", "ca": pair.certificate, "server_name": NAME}
    assert shown(world, screen.target(**trusted))["screen"]
    stranger, _ = self_signed(NAME)
    refused(world, screen.target(**{**trusted, "ca": stranger}), f"certificate is not one for {NAME}: self")
    refused(world, screen.target(**{**trusted, "server_name": "other.example"}), "Hostname mismatch")
    refused(world, screen.target(security="vencrypt", ca=pair.certificate), f"is not one for {SERVERS}: IP address mis")
    refused(world, screen.target(**trusted, password="x"), "offers VeNCrypt subtypes [260], and not 261")


def test_tigervnc_x509_with_a_password(world: World, pair: Pair) -> None:
    screen = tigervnc(world, pair, "X509Vnc", "-rfbauth", password_file(world, "s3cret"))
    target = screen.target(security="vencrypt", ca=pair.certificate, server_name=NAME, password="s3cret")
    assert shown(world, target)["screen"]
    refused(world, {**target, "password": "wrong"}, "lets nobody in")


def test_tigervnc_x509_with_a_user(world: World, pair: Pair) -> None:
    """X509Plain: the server asks PAM, here for users of its machine."""
    for name, password in (("ann", "a longer password: ü"), ("bob", "s3cret")):
        world.servers.run(["useradd", "--no-create-home", name])
        world.servers.run(["chpasswd"], stdin=f"{name}:{password}\n")
    world.servers.write("/etc/pam.d/screens", "auth required pam_unix.so nodelay\naccount required pam_unix.so\n")
    screen = tigervnc(world, pair, "X509Plain", "-PlainUsers", "ann", "-PAMService", "screens")
    trusted = {"security": "vencrypt", "ca": pair.certificate, "server_name": NAME}
    target = screen.target(**trusted, username="ann", password="a longer password: ü")
    assert shown(world, target)["screen"]
    refused(world, {**target, "password": "wrong"}, "lets nobody in: 'Authentication failure: invalid password")
    refused(world, {**target, "username": "bob", "password": "s3cret"}, "lets nobody in")
    refused(world, screen.target(**trusted, password="s3cret"), "offers VeNCrypt subtypes [262], and not 261")
    refused(world, {**target, "ca": self_signed(NAME)[0]}, "certificate is not one for")


# ---- QEMU


def qemu(world: World, number: int, *options: str) -> Raw:
    """A VM that is not started, with a screen all the same; the target of its display ``number``."""
    port = 5900 + number
    world.processes.append(
        world.servers.popen(
            [
                *("qemu-system-x86_64", "-machine", "pc,accel=tcg", "-S", "-nodefaults", "-vga", "std"),
                *("-name", "qemu-vm", "-display", "none", *options),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
    )
    wait_for(lambda: world.servers.connects(SERVERS, port), 30, "QEMU")
    return {"kind": "vnc", "host": SERVERS, "port": port}


def test_qemu(world: World) -> None:
    target = qemu(world, 50, "-vnc", f"{SERVERS}:50")
    assert shown(world, target)["screen"] == "QEMU (qemu-vm)"


def test_qemu_password(world: World) -> None:
    secret = "secret,id=vnc,data=s3cret"
    target = qemu(world, 51, "-object", secret, "-vnc", f"{SERVERS}:51,password-secret=vnc")
    assert shown(world, {**target, "security": "vnc", "password": "s3cret"})["screen"] == "QEMU (qemu-vm)"
    refused(world, {**target, "security": "vnc", "password": "wrong"}, "lets nobody in")


def test_qemu_x509(world: World, pair: Pair) -> None:
    credentials = "tls-creds-x509,id=tls,dir=/run/x509,endpoint=server,verify-peer=off,sanity-check=off"
    target = qemu(world, 52, "-object", credentials, "-vnc", f"{SERVERS}:52,tls-creds=tls")
    trusted = {**target, "security": "vencrypt", "ca": pair.certificate, "server_name": NAME}
    assert shown(world, trusted)["screen"] == "QEMU (qemu-vm)"
    refused(world, {**trusted, "ca": self_signed(NAME)[0]}, "certificate is not one for")


# ---- servers that are none


def test_nobody_there(world: World) -> None:
    refused(world, {"kind": "vnc", "host": SERVERS, "port": 4}, "Connection refused")


def test_a_server_of_something_else(world: World) -> None:
    world.processes.append(world.servers.popen(["/usr/bin/python3", "-m", "http.server", "8080"]))
    wait_for(lambda: world.servers.connects(SERVERS, 8080), 10, "a web server")
    # it waits for a request: nobody speaks first
    refused(world, {"kind": "vnc", "host": SERVERS, "port": 8080}, "no answer within 15 s")


def test_a_server_that_dies(world: World) -> None:
    screen = world.screen()
    _, token = world.session(screen.target())
    process = world.person.popen(argv(by(token), "screen", "code"))
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.readline()
    world.servers.kill(f"-rfbport {screen.port}")
    assert '"code": 4004' in process.communicate(timeout=20)[0]
