"""Small servers and clients that run in guests and hosts: UDP echo, connections that stay open."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

from tests.netns.lab import Machine
from tests.wait import wait_for

PYTHON = "/usr/bin/python3"

_UDP_ECHO = """
import selectors, socket, sys
selector = selectors.DefaultSelector()
for port in map(int, sys.argv[1:]):
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("", port))
    selector.register(server, selectors.EVENT_READ, port)
open("/run/udp-ready", "w").close()
while True:
    for key, _ in selector.select():
        data, peer = key.fileobj.recvfrom(2048)
        key.fileobj.sendto(f"{key.data} {peer[0]}".encode(), peer)
"""

_UDP_ASK = """
import socket, sys
client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
client.settimeout(float(sys.argv[3]))
if len(sys.argv) > 4:
    client.bind((sys.argv[4], 0))
client.connect((sys.argv[1], int(sys.argv[2])))
try:
    client.send(b"?")
    print(client.recv(2048).decode())
except OSError as error:
    print("", error, file=sys.stderr)
"""

_TALK = """
import socket, sys
client = socket.create_connection((sys.argv[1], int(sys.argv[2])), 3)
client.settimeout(3)
print("connected", flush=True)
for line in sys.stdin:
    try:
        client.sendall(line.encode())
        print(client.recv(2048).decode().strip() or "closed", flush=True)
    except OSError as error:
        print("lost", flush=True)
"""

_TCP_ECHO = """
import socketserver, sys
class Echo(socketserver.BaseRequestHandler):
    def handle(self):
        while data := self.request.recv(2048):
            self.request.sendall(data)
class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = daemon_threads = True
Server(("", int(sys.argv[1])), Echo).serve_forever()
"""


def _quiet(machine: Machine, argv: Sequence[str]) -> None:
    machine.popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def udp_echo(machine: Machine, *ports: int) -> None:
    """Answer each datagram with the port it came to and the client's address."""
    _quiet(machine, [PYTHON, "-c", _UDP_ECHO, *map(str, ports)])
    wait_for(lambda: machine.ok(["test", "-e", "/run/udp-ready"]), 5, "the UDP echo server")


def udp_ask(
    machine: Machine, address: str, port: int, *, source: str = "", timeout: float = 0.5
) -> tuple[int, str] | None:
    """The answer of ``udp_echo`` (port, client address), or None when there is none."""
    argv = [PYTHON, "-c", _UDP_ASK, address, str(port), str(timeout), *([source] if source else [])]
    answer = machine.run(argv).stdout.split()
    return (int(answer[0]), answer[1]) if answer else None


def tcp_echo(machine: Machine, port: int) -> None:
    """Send back what each connection sends."""
    _quiet(machine, [PYTHON, "-c", _TCP_ECHO, str(port)])
    wait_for(lambda: machine.connects("127.0.0.1", port), 5, "the TCP echo server")


@dataclass
class Conversation:
    """A TCP connection to ``tcp_echo`` that stays open."""

    process: subprocess.Popen[str]

    def alive(self) -> bool:
        """Whether what is sent now comes back within three seconds."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("hello\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip() == "hello"

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()


def talk(machine: Machine, address: str, port: int) -> Conversation:
    """Connect to ``tcp_echo`` and keep the connection."""
    process = machine.popen([PYTHON, "-u", "-c", _TALK, address, str(port)], stdin=subprocess.PIPE)
    assert process.stdout is not None
    first = process.stdout.readline().strip()
    assert first == "connected", process.communicate()[1]
    return Conversation(process)
