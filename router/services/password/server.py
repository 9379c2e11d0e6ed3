"""The password server: ``python -m router.services.password.server CONFIG``.

CONFIG is JSON: ``listen`` (addresses), ``port`` and ``vault`` (folder, see vault.py).

Flask on cheroot. Guests may be strangers to each other and share its threads: see ``PatientConnection``.
"""

from __future__ import annotations

import json
import resource
import select
import signal
import socket
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

from cheroot import wsgi
from cheroot.server import HTTPConnection

from router.services.password.app import create_app
from router.services.password.vault import Vault

THREADS = 8
BACKLOG = 512
#: octets of a request, and seconds for it to arrive
MOST_HEAD, PATIENCE = 4096, 2
#: connections of one guest
MOST_BY_ONE = 4
#: <linux/in.h>: bind to an address that is not there yet, as on a standby router
IP_FREEBIND = 15

_open: Counter[str] = Counter()
_open_lock = threading.Lock()


class PatientConnection(HTTPConnection):
    """A connection that takes a thread only once its whole request is there, and closes when that takes too long."""

    _began = 0.0

    def communicate(self) -> bool:
        """Called by a thread when there is something to read; True to be called again (see HTTPConnection)."""
        if not self._began:
            with _open_lock:
                if _open[self.remote_addr] >= MOST_BY_ONE:
                    return False
                _open[self.remote_addr] += 1
            self._began = time.monotonic()
        try:
            head: bytes = self.socket.recv(MOST_HEAD, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return True
        if b"\r\n\r\n" in head:
            return bool(super().communicate())  # type: ignore[no-untyped-call]
        if len(head) == MOST_HEAD or time.monotonic() - self._began > PATIENCE or _no_more(self.socket):
            return False
        # not readable again before there is more than was seen now
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, len(head) + 1)
        return True

    def close(self) -> None:
        if self._began:
            self._began = 0.0
            with _open_lock:
                _open[self.remote_addr] -= 1
                if not _open[self.remote_addr]:
                    del _open[self.remote_addr]
        super().close()


def _no_more(sock: socket.socket) -> bool:
    """Whether the other side has closed its direction."""
    poll = select.poll()
    poll.register(sock, select.POLLRDHUP)
    return bool(poll.poll(0))


class Listener(wsgi.Server):
    """cheroot's server on one address."""

    ConnectionClass = PatientConnection
    #: one request a connection: what a guest holds open serves nobody
    keep_alive_conn_limit = 0
    max_request_header_size = MOST_HEAD
    max_request_body_size = 1

    @staticmethod
    def bind_socket(socket_: socket.socket, bind_addr: tuple[str, int]) -> socket.socket:
        """Called by cheroot; also for an address that comes later."""
        socket_.setsockopt(socket.IPPROTO_IP, IP_FREEBIND, 1)
        # nobody is accepted who sends nothing
        socket_.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 5)
        socket_.bind(bind_addr)
        return socket_

    def error_log(self, msg: str = "", level: int = 20, traceback: bool = False) -> None:
        """Called by cheroot. Without tracebacks: nothing of a request may get into a log."""
        print(f"password: {msg}", file=sys.stderr, flush=True)


def main(arguments: list[str]) -> int:
    config: dict[str, Any] = json.loads(Path(arguments[0]).read_text())
    # before any thread is there, so that all of them leave these to sigwait()
    signals = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, 8192), most))
    vault = Vault(Path(config["vault"]))
    vault.create()
    app = create_app(vault)
    listeners = []
    for address in config["listen"]:
        listener = Listener(
            (address, config["port"]),
            app,
            numthreads=THREADS,
            max=THREADS,
            request_queue_size=BACKLOG,
            timeout=PATIENCE,
            shutdown_timeout=1,
            server_name="password",
        )
        listener.prepare()
        threading.Thread(target=listener.serve, name=f"serve {address}", daemon=True).start()
        listeners.append(listener)
    signal.sigwait(signals)
    for listener in listeners:
        listener.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
