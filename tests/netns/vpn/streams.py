"""A stream of numbered datagrams and the server that sends them back: what a change of keys loses."""

from __future__ import annotations

import subprocess

from tests.netns.lab import Machine
from tests.netns.router.traffic import PYTHON

#: sends numbered datagrams to a UDP echo server, 50 a second, and prints how many of them came back
_STREAM = """
import contextlib, socket, sys, threading, time
client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
client.connect((sys.argv[1], 7))
client.settimeout(2)
back, done = set(), threading.Event()
def receive():
    while True:
        try:
            back.add(client.recv(100))
        except OSError:
            if done.is_set():
                return
thread = threading.Thread(target=receive)
thread.start()
for number in range(int(sys.argv[2])):
    with contextlib.suppress(OSError):
        client.send(str(number).encode())
    time.sleep(0.02)
done.set()
thread.join()
print(len(back))
"""

_ECHO = """
import socket, sys
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind((sys.argv[1], 7))
while True:
    server.sendto(*server.recvfrom(100))
"""


def echo_server(machine: Machine, address: str) -> None:
    """Send back what comes to UDP port 7 of an address, until the machine ends."""
    machine.popen([PYTHON, "-c", _ECHO, address])


def stream(machine: Machine, address: str, count: int) -> subprocess.Popen[str]:
    """Send ``count`` datagrams to an echo server, 50 a second; prints how many came back."""
    return machine.popen([PYTHON, "-c", _STREAM, address, str(count)])
