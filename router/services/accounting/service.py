"""Traffic counters per public address and per guest; totals survive reloads, agent and router restarts.

Read every two seconds and kept on disk every five: what is lost is the traffic of an address between its last reading
and its removal, and between the last write and a power cut. Killing the agent loses nothing, the kernel goes on.
"""

from __future__ import annotations

import logging
import os
import time
import uuid
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from appliance.engine.service import BaseService, Change, Host, Rendered
from appliance.settings import Settings
from router.document import RouterState
from router.services.accounting.render import SETS, render
from router.services.accounting.totals import Totals, advance

log = logging.getLogger(__name__)

#: seconds between two readings, and between two writes to disk
READ_EVERY = 2.0
SAVE_EVERY = 5.0


class AccountingService(BaseService):
    name = "accounting"
    after = ("interfaces", "nat", "firewall")
    inputs = ("accounting", "interfaces", "dhcp")

    def __init__(self) -> None:
        #: replaced as a whole, so that other threads may read it
        self._totals: Totals | None = None
        self._read = self._saved = float("-inf")

    def render(self, state: RouterState, settings: Settings) -> Rendered:
        if state.accounting is None:
            return Rendered()
        return Rendered(ruleset=render(state.accounting, state.interfaces, state.dhcp))

    def apply(self, change: Change, host: Host) -> None:
        if change.force and change.after is not None and change.after.accounting is not None:
            self._take(host)

    def drift(self, state: RouterState, host: Host) -> str | None:
        now = time.monotonic()
        if state.accounting is not None and now - self._read >= READ_EVERY:
            self._take(host)
        return None

    def metrics(self, state: RouterState, host: Host) -> str:
        lines: list[str] = []
        for unit, index in (("packets", 0), ("bytes", 1)):
            metric = f"gatehouse_traffic_{unit}_total"
            lines += [f"# HELP {metric} Traffic of a public address or a guest, in and out", f"# TYPE {metric} counter"]
            for name, entries in self._known().sets.items():
                kind, direction = SETS[name]
                lines += [
                    f'{metric}{{kind="{kind}",direction="{direction}",address="{address}"}} {entry.total[index]}'
                    for address, entry in entries.items()
                ]
        return "\n".join(lines) + "\n"

    def report(self, host: Host) -> Any:
        """``{"public": {address: {"in": bytes, "out": bytes}}, "guest": {...}}``, totals since the router was made."""
        found: dict[str, dict[str, dict[str, int]]] = {}
        for name, entries in self._known().sets.items():
            kind, direction = SETS[name]
            for address, entry in entries.items():
                found.setdefault(kind, {}).setdefault(address, {})[direction] = entry.total[1]
        return found or None

    def _known(self) -> Totals:
        return self._totals or Totals()

    def _take(self, host: Host) -> None:
        before = _load(host.settings) if self._totals is None else self._totals
        after = advance(before, host.netfilter.counters(SETS), _boot(host.settings), time.time())
        self._totals, self._read = after, time.monotonic()
        if self._read - self._saved >= SAVE_EVERY:
            self._saved = self._read
            try:
                _save(host.settings, after)
            except OSError as error:
                # nothing to repair on the router; counting goes on in memory
                log.error("traffic totals are not on disk: %s; free some space in %s", error, host.settings.state_dir)


def _file(settings: Settings) -> Path:
    return settings.state_dir / "accounting.json"


def _load(settings: Settings) -> Totals:
    try:
        return Totals.model_validate_json(_file(settings).read_bytes())
    except (FileNotFoundError, ValidationError):
        return Totals()


def _save(settings: Settings, totals: Totals) -> None:
    path = _file(settings)
    draft = path.with_suffix(".new")
    with draft.open("w", encoding="utf-8") as file:
        file.write(totals.model_dump_json())
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def _boot(settings: Settings) -> str:
    """A token that lives as long as the kernel's counters: the run directory is lost with the namespace."""
    path = settings.run_dir / "accounting.boot"
    try:
        return path.read_text("ascii")
    except FileNotFoundError:
        path.write_text(uuid.uuid4().hex, "ascii")
        return path.read_text("ascii")


SERVICE = AccountingService()
