"""An SSH server on another host: each connection to a port of this machine's loopback is one to the host."""

from __future__ import annotations

import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from appliance.run import run

_CONFIG = """
HostKey {0}/host_key
AuthorizedKeysFile {0}/authorized_keys
PidFile none
UsePAM no
StrictModes no
PasswordAuthentication no
"""


class SshServer:
    """``enter`` gives the words that run a command on the host. ``directory`` has its keys."""

    def __init__(self, directory: Path, enter: Callable[[], Sequence[str]]) -> None:
        self._directory, self._enter = directory, enter
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._servers: list[subprocess.Popen[bytes]] = []
        directory.mkdir()
        run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(directory / "host_key")])
        (directory / "config").write_text(_CONFIG.format(directory))
        threading.Thread(target=self._serve, daemon=True).start()

    def known(self) -> str:
        """The line of known_hosts for it."""
        kind, key, *_ = (self._directory / "host_key.pub").read_text().split()
        return f"[127.0.0.1]:{self.port} {kind} {key}\n"

    def admit(self, public: Path) -> None:
        """Let the owner of a key in."""
        shutil.copy(public, self._directory / "authorized_keys")

    def cut(self) -> None:
        """Break all connections."""
        servers, self._servers = self._servers, []
        for server in servers:
            server.kill()
            server.wait()

    def close(self) -> None:
        self._listener.close()
        self.cut()

    def _serve(self) -> None:
        # ends when the listener is closed
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                # a host that is down lets nobody in
                with connection, suppress(RuntimeError):
                    self._servers.append(self._attend(connection))

    def _attend(self, connection: socket.socket) -> subprocess.Popen[bytes]:
        run([*self._enter(), "mkdir", "-p", "/run/sshd"])
        server = ["/usr/sbin/sshd", "-i", "-f", f"{self._directory}/config", "-E", f"{self._directory}/log"]
        handle = connection.fileno()
        return subprocess.Popen([*self._enter(), *server], stdin=handle, stdout=handle)
