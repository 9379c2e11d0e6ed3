"""A VNC server that sends what it is told to, and the browser that gets it: programs for machines of the lab.

``hostile server ADDRESS PORT`` takes a line of JSON for each connection: ``handshake`` (hexadecimal pieces that are
written one by one), ``heard`` (octets that it waits for then), ``pieces`` and ``reset`` (the connection is reset at the
end, not closed). ``hostile browser HOST:PORT PATH ORIGIN COOKIE`` takes
a line of JSON for each, too, and tells in JSON what came: ``refusal`` (text) or ``stream`` (hexadecimal, from
ServerInit on), and ``code``. With ``frames`` (hexadecimal) it sends these after its handshake, ``raw`` behind them
without a frame, and does not wait for the end: ``code`` is null when none came.
"""

from __future__ import annotations

import json
import socket
import struct
import sys
from contextlib import suppress
from typing import Any

from tests.netns.consoleproxy.wsclient import ClosedError, Socket

#: on close, send a reset: linger for no time (socket(7))
_RESET = struct.pack("ii", 1, 0)


def serve(address: str, port: int) -> None:
    with socket.create_server((address, port)) as listener:
        print("listening", flush=True)
        for line in sys.stdin:
            asked = json.loads(line)
            connection, _ = listener.accept()
            with connection:
                connection.settimeout(5)
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                # the proxy may have heard enough before the end
                with suppress(OSError):
                    _talk(connection, asked)


def _talk(connection: socket.socket, asked: dict[str, Any]) -> None:
    for piece in asked["handshake"]:
        connection.sendall(bytes.fromhex(piece))
    heard = 0
    while heard < asked["heard"] and (data := connection.recv(asked["heard"] - heard)):
        heard += len(data)
    for piece in asked["pieces"]:
        connection.sendall(bytes.fromhex(piece))
    if asked["reset"]:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        return
    connection.shutdown(socket.SHUT_WR)
    while connection.recv(65536):
        pass


def browse(host: str, path: str, origin: str, cookie: str) -> None:
    address, _, port = host.rpartition(":")
    for line in sys.stdin:
        found = _watch(Socket(address, int(port), path, origin, cookie), json.loads(line))
        print(json.dumps(found), flush=True)


def _watch(opened: Socket, asked: dict[str, Any]) -> dict[str, Any]:
    assert opened.status == 101, opened.status
    with opened.connection:
        try:
            assert opened.read(12) == b"RFB 003.008\n"
            opened.send(b"RFB 003.008\n")
            if opened.read(1) == b"\0":
                text = opened.read(struct.unpack("!I", opened.read(4))[0]).decode()
                return {"refusal": text, "code": opened.close_code()}
            opened.send(b"\1\1")
            assert opened.read(1 + 4) == b"\1\0\0\0\0"
            if "frames" in asked:
                for frame in asked["frames"]:
                    opened.send(bytes.fromhex(frame))
                opened.connection.sendall(bytes.fromhex(asked["raw"]))
                opened.connection.settimeout(0.2)
            while True:
                opened.stream += opened.frame()
        except ClosedError as closed:
            return {"stream": opened.stream.hex(), "code": closed.code}
        except TimeoutError:
            return {"stream": opened.stream.hex(), "code": None}
        except OSError:
            return {"stream": opened.stream.hex(), "code": 1006}


if __name__ == "__main__":
    what, *words = sys.argv[1:]
    if what == "server":
        serve(words[0], int(words[1]))
    else:
        browse(*words)
