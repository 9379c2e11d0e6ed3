"""The storage worker: told of every change without a restart, asked how its jobs, links and stores are."""

from __future__ import annotations

import hashlib
import signal
import time
from typing import Any

from appliance.engine.service import BaseService, Change, Host, Rendered
from appliance.errors import ApplyError, ProbeError
from appliance.inquiry import ask
from appliance.settings import Settings
from ssvm.document import SsvmState
from ssvm.services.storage.nfs import Exports
from ssvm.services.storage.render import WORKER, WORKER_USER, config_file, render, socket_file

#: seconds the worker has to take a configuration up; starting takes fifteen and more where processors are emulated
PATIENCE = 60.0


def _trouble(host: Host) -> str:
    """Why the worker does not do what it was told to; "" when it does."""
    try:
        status = ask(socket_file(host.settings))
        wanted = hashlib.sha256(config_file(host.settings).read_bytes()).hexdigest()
    except (OSError, ValueError) as error:
        return f"the storage worker does not answer: {error}; {host.supervisor.log_tail(WORKER, 3)}"
    if status["error"]:
        return str(status["error"])
    return "" if status["digest"] == wanted else "the storage worker has an older configuration"


class StorageService(BaseService):
    name = "storage"
    after = ("interfaces",)
    inputs = ("storage", "interfaces")

    def __init__(self) -> None:
        self._exports = Exports()

    def render(self, state: SsvmState, settings: Settings) -> Rendered:
        return render(state, settings)

    def apply(self, change: Change, host: Host) -> None:
        state: SsvmState | None = change.after
        before = change.before.storage if change.before is not None else None
        self._exports.bring(before, state.storage if state is not None else None, host.settings, WORKER_USER)
        if state is None or state.storage is None:
            return
        if WORKER not in change.started:
            host.supervisor.signal(WORKER, signal.SIGHUP)
        deadline = time.monotonic() + PATIENCE
        while trouble := _trouble(host):
            if host.supervisor.pid(WORKER) is None or time.monotonic() > deadline:
                raise ApplyError(trouble)
            time.sleep(0.01)

    def drift(self, state: SsvmState, host: Host) -> str | None:
        return self._exports.missing(state.storage, host.settings)

    def probe(self, state: SsvmState, host: Host) -> None:
        if state.storage is not None and (trouble := _trouble(host)):
            raise ProbeError(trouble)

    def report(self, host: Host) -> Any:
        """A ``Report`` (model/report.py), None without a worker."""
        try:
            return ask(socket_file(host.settings))["report"]
        except (OSError, ValueError):
            return None


SERVICE = StorageService()
