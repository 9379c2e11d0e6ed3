"""The relays that are measured, each on the same core, with a source of their own on the other."""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from appliance.inquiry import ask
from appliance.settings import Settings
from consoleproxy.document import ConsoleProxyState
from consoleproxy.services.console.render import render, socket_file
from tests.certificates import self_signed
from tests.wait import wait_for

#: one core for the relay that is measured, one for what feeds it and what reads from it
RELAY_CPU, OTHER_CPU = (*sorted(os.sched_getaffinity(0))[:2], 0)[:2]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def _running(cpu: int, *argv: str) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        ["taskset", "-c", str(cpu), *argv], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        yield process
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _tree(pid: int) -> list[int]:
    """A process and those below it; websockify has one for each connection, which may end at any moment."""
    found = [pid]
    with suppress(OSError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            for child in (thread / "children").read_text().split():
                found += _tree(int(child))
    return found


def _seconds(pid: int) -> float:
    """Processor time of a process (proc_pid_schedstat); none of one that is gone."""
    seconds = 0.0
    with suppress(OSError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            seconds += int((thread / "schedstat").read_text().split()[0]) / 1e9
    return seconds


class Relay:
    """A relay that listens on ``port``; ``kind`` is how it is spoken to."""

    def __init__(self, process: int, port: int, kind: str) -> None:
        self.process, self.port, self.kind = process, port, kind

    def paths(self, number: int) -> list[str]:
        """What to ask for on each of ``number`` connections."""
        return ["/"] * number

    def busy(self) -> dict[int, float]:
        """Seconds of processor time so far, of it and of each of its processes."""
        return {pid: _seconds(pid) for pid in _tree(self.process)}

    def busy_since(self, before: dict[int, float]) -> float:
        """Seconds since ``before``; processes that are gone meanwhile are not counted."""
        return sum(seconds - before.get(pid, 0.0) for pid, seconds in self.busy().items())

    def memory(self) -> int:
        """Octets that are its own."""
        found = 0
        for pid in _tree(self.process):
            text = Path(f"/proc/{pid}/smaps_rollup").read_text()
            found += 1024 * sum(int(kb) for kb in re.findall(r"^Private_\w+:\s+(\d+) kB", text, re.MULTILINE))
        return found

    def start(self, what: str, seconds: float, number: int = 1) -> subprocess.Popen[str]:
        argv = [sys.executable, "-m", "tests.bench.console.load", what, self.kind, str(self.port), str(seconds)]
        return subprocess.Popen(
            ["taskset", "-c", str(OTHER_CPU), *argv, *self.paths(number)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def load(self, what: str, seconds: float, number: int = 1) -> dict[str, Any]:
        """Run the browser's side to its end; what it found, and ``busy``: seconds of processor time that it took."""
        before = self.busy()
        with self.start(what, seconds, number) as process:
            assert process.stdout is not None
            while not (line := process.stdout.readline()).startswith("{"):
                assert line, f"the load on {self.kind} {self.port} failed"
            found: dict[str, Any] = {**json.loads(line), "busy": self.busy_since(before)}
            process.communicate("\n", timeout=30)
        return found


class Console(Relay):
    """The console proxy's."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, kind: str, directory: Path, source: int) -> None:
        super().__init__(process.pid, port, kind)
        self._settings = Settings(
            config_dir=directory / "etc", run_dir=directory / "run", state_dir=directory / "state"
        )
        self._directory, self._source, self._number = directory, source, 0
        self._sessions: list[dict[str, Any]] = []

    def paths(self, number: int) -> list[str]:
        found = []
        expires = (datetime.now(UTC) + timedelta(minutes=10)).isoformat()
        self._sessions.clear()
        for _ in range(number):
            self._number += 1
            token = secrets.token_urlsafe(32)
            found.append(f"/websockify?token={token}")
            self._sessions.append(
                {
                    "id": f"bench-{self._number}",
                    "token_hash": hashlib.sha256(token.encode()).hexdigest(),
                    "vm": "vm",
                    "target": {"kind": "vnc", "host": "127.0.0.1", "port": self._source},
                    "expires": expires,
                }
            )
        digest = configure(self._settings, self._directory, self.port, self.kind, self._sessions)
        os.kill(self.process, signal.SIGHUP)
        wait_for(lambda: ask(socket_file(self._settings))["digest"] == digest, 20, "the relay to know its sessions")
        return found


def settings_of(directory: Path) -> Settings:
    return Settings(config_dir=directory / "etc", run_dir=directory / "run", state_dir=directory / "state")


def configure(settings: Settings, directory: Path, port: int, kind: str, sessions: list[dict[str, Any]]) -> str:
    """Write the relay's files as the engine does; the digest by which it knows them."""
    nics = [
        {"name": "eth0", "mac": "02:00:00:00:00:01", "role": "control", "addresses": ["169.254.3.3/16"]},
        {"name": "eth1", "mac": "02:00:00:00:00:02", "role": "public", "addresses": ["127.0.0.1/8"]},
    ]
    console: dict[str, Any] = {"port": port, "sessions": sessions, "session_max": 1000}
    if kind == "wss":
        certificate, key = ((directory / name).read_text() for name in ("cert.pem", "key.pem"))
        console["certificate"] = {"certificate": certificate, "key": key}
    state = {"hostname": "bench", "interfaces": {"interfaces": nics}, "console": console}
    rendered = render(ConsoleProxyState.model_validate(state), settings)
    for unit in rendered.units:
        for folder in unit.writable:
            folder.mkdir(parents=True, exist_ok=True)
    for path, file in rendered.files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(str(file.text))
    return hashlib.sha256((settings.config_dir / "console/relay.json").read_bytes()).hexdigest()


@contextmanager
def relays(kind: str) -> Iterator[dict[str, Relay]]:
    """Name -> relay: ``console`` and ``websockify`` spoken to by ``kind``, and ``plain`` beside ``ws``."""
    with tempfile.TemporaryDirectory(prefix="gatehouse-bench-") as name:
        directory = Path(name)
        for file, text in zip(("cert.pem", "key.pem"), self_signed("bench"), strict=True):
            (directory / file).write_text(text)
        source, port, theirs, raw = (free_port() for _ in range(4))
        python = sys.executable
        configure(settings_of(directory), directory, port, kind, [])
        files = ["--ssl-only", "--cert", str(directory / "cert.pem"), "--key", str(directory / "key.pem")]
        secure = files if kind == "wss" else []
        ends = [f"127.0.0.1:{at}" for at in (theirs, source)]
        module = "consoleproxy.services.console.relay"
        with (
            _running(OTHER_CPU, python, "-m", "tests.bench.console.source", str(source)),
            _running(RELAY_CPU, python, "-m", module, str(directory / "etc/console/relay.json")) as console,
            _running(RELAY_CPU, python, "-m", "websockify", *secure, *ends) as (websockify),
            _running(RELAY_CPU, python, "-m", "tests.bench.console.plain", str(raw), str(source)) as plain,
        ):
            for one in (source, port, theirs, raw):
                wait_for(partial(_listens, one), 30, f"port {one}")
            found = {
                "console": Console(console, port, kind, directory, source),
                "websockify": Relay(websockify.pid, theirs, kind),
            }
            yield found | ({"plain": Relay(plain.pid, raw, "plain")} if kind == "ws" else {})
