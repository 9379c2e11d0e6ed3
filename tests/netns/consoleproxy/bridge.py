"""A way to the proxy for VNC clients that speak TCP: one connection on loopback, carried over a session's WebSocket.

A program for a machine of the lab: ``python -m tests.netns.consoleproxy.bridge PORT PROXY:PORT PATH ORIGIN``. It prints
``listening``, and the status code when the proxy closes.
"""

from __future__ import annotations

import select
import socket
import sys

from tests.netns.consoleproxy.wsclient import ClosedError, Socket


def main(port: str, host: str, path: str, origin: str) -> None:
    with socket.create_server(("127.0.0.1", int(port))) as listener:
        print("listening", flush=True)
        client, _ = listener.accept()
    address, _, proxy_port = host.rpartition(":")
    opened = Socket(address, int(proxy_port), path, origin)
    with client, opened.connection:
        try:
            carry(client, opened)
        except ClosedError as closed:
            print(closed.code, flush=True)


def carry(client: socket.socket, opened: Socket) -> None:
    """Until one of them goes. Raises ClosedError when it was the proxy."""
    while True:
        ready, _, _ = select.select([client, opened.connection], [], [])
        if client in ready:
            if not (data := client.recv(65536)):
                return
            opened.send(data)
        # what has been read of the connection before does not show in select
        while opened.connection in ready or opened.buffer or opened.connection.pending():
            client.sendall(opened.frame())
            ready = []


if __name__ == "__main__":
    main(*sys.argv[1:])
