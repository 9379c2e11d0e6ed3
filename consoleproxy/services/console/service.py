"""The console relay: told of every change without a restart, asked what it serves and what became of sessions."""

from __future__ import annotations

import hashlib
import signal
import ssl
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from appliance.engine.service import BaseService, Change, Host, Rendered
from appliance.errors import ApplyError, CheckFailedError, ProbeError
from appliance.inquiry import ask, have_done
from appliance.settings import Settings
from consoleproxy.document import ConsoleProxyState
from consoleproxy.services.console.render import UNIT, certificate_file, config_file, render, socket_file

#: seconds the relay has to take a configuration up; starting takes ten and more where processors are emulated, and more
#: than sixty when the machine is busy too. One that ended is told of at once.
PATIENCE = 180.0


def _digest(settings: Settings) -> str:
    return hashlib.sha256(config_file(settings).read_bytes()).hexdigest()


def _trouble(settings: Settings) -> str:
    """Why the relay does not serve what it was told to; "" when it does."""
    try:
        status = ask(socket_file(settings))
        wanted = _digest(settings)
    except (OSError, ValueError) as error:
        return f"the relay does not answer: {error}"
    if status["error"]:
        return str(status["error"])
    return "" if status["digest"] == wanted else "the relay serves an older configuration"


class ConsoleService(BaseService):
    name = "console"
    after = ("interfaces",)
    inputs = ("console", "interfaces")

    def render(self, state: ConsoleProxyState, settings: Settings) -> Rendered:
        return render(state, settings)

    def check(self, rendered: Rendered, staged: Mapping[Path, Path], host: Host) -> None:
        copy = staged.get(certificate_file(host.settings))
        if copy is None:
            return
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(copy)
        except (ssl.SSLError, OSError) as error:
            raise CheckFailedError(
                f"the certificate cannot be used with its key: {error}; give a PEM certificate and the PKCS#8 key that "
                "it was made for"
            ) from error

    def apply(self, change: Change, host: Host) -> None:
        state: ConsoleProxyState | None = change.after
        if state is None or not render(state, host.settings).units:
            return
        if UNIT not in change.started:
            host.supervisor.signal(UNIT, signal.SIGHUP)
        deadline = time.monotonic() + PATIENCE
        while trouble := _trouble(host.settings):
            if host.supervisor.pid(UNIT) is None or time.monotonic() > deadline:
                raise ApplyError(f"{trouble}; its log: {host.supervisor.log_tail(UNIT, 3)}")
            time.sleep(0.005)

    def probe(self, state: ConsoleProxyState, host: Host) -> None:
        if render(state, host.settings).units and (trouble := _trouble(host.settings)):
            raise ProbeError(f"{trouble}; its log: {host.supervisor.log_tail(UNIT, 3)}")

    def metrics(self, state: ConsoleProxyState, host: Host) -> str:
        try:
            status = ask(socket_file(host.settings))
        except (OSError, ValueError):
            return ""  # the probe tells that the relay is down
        lines = []
        for name, kind, text in (
            ("sessions", "gauge", "Sessions with a connection"),
            ("sent_bytes_total", "counter", "Octets of screens sent to browsers"),
            ("received_bytes_total", "counter", "Octets received from browsers"),
            ("refused_total", "counter", "Connections that were refused"),
        ):
            metric = f"gatehouse_console_{name}"
            lines += [f"# HELP {metric} {text}", f"# TYPE {metric} {kind}"]
            lines += [f"{metric} {status['totals'][name.removesuffix('_bytes_total').removesuffix('_total')]}"]
        return "\n".join(lines) + "\n"

    def report(self, host: Host) -> Any:
        """What the control plane makes events and its picture of the load of (relay/status.py); None without a relay.

        ``{"sessions": n, "session_max": n, "open": [...], "recordings": [...], "records": [...]}``
        """
        try:
            status = ask(socket_file(host.settings))
        except (OSError, ValueError):
            return None
        return {name: status[name] for name in ("sessions", "session_max", "open", "recordings", "records")}

    # ---- recordings; the relay does it, so that the agent opens nothing that a user of its own could have put there

    def read_file(self, name: str, offset: int, host: Host) -> bytes:
        return self._recording(host, do="read", name=name, offset=offset)

    def write_file(self, name: str, offset: int, data: bytes, host: Host) -> None:
        self._recording(host, data, do="bring", name=name, offset=offset)

    def remove_file(self, name: str, host: Host) -> None:
        self._recording(host, do="remove", name=name)

    def _recording(self, host: Host, data: bytes = b"", **question: Any) -> bytes:
        return have_done(socket_file(host.settings), question, data)


SERVICE = ConsoleService()
