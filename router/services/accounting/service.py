"""Traffic counters per public address, guest and VPN; totals survive reloads, agent and router restarts.

Killing the agent loses nothing, the kernel goes on. What is lost is what passes between the last look at an address
and its removal in the same change (milliseconds), and since the last write to disk when the router loses power.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError

from appliance.engine.service import BaseService, Change, Host, Rendered
from appliance.files import replace_file
from appliance.schema.traffic import Traffic
from appliance.settings import Settings
from router.document import RouterState
from router.services.accounting.render import render
from router.services.accounting.totals import SETS, Owners, Totals, advance, vpn_set

log = logging.getLogger(__name__)

#: seconds between two readings that nobody asked for
READ_EVERY = 5.0


class AccountingService(BaseService):
    name = "accounting"
    after = ("interfaces", "nat", "firewall")
    inputs = ("accounting", "interfaces", "dhcp")

    def __init__(self) -> None:
        # the engine's thread reads and so does who asks for the traffic
        self._lock = threading.Lock()
        #: as on disk; None before the first reading
        self._totals: Totals | None = None
        #: whose the addresses are; None until the state is known, and nothing is read before
        self._owners: Owners | None = None
        #: the sets that the kernel has for them
        self._sets: frozenset[str] = frozenset()
        self._read = float("-inf")

    def render(self, state: RouterState, settings: Settings) -> Rendered:
        if state.accounting is None:
            return Rendered()
        return Rendered(ruleset=render(state.accounting, state.interfaces, state.dhcp))

    def check(self, rendered: Rendered, staged: Mapping[Path, Path], host: Host) -> None:
        # before addresses that are on their way out take their counters with them
        sets, last = rendered.ruleset.sets, (self._totals or Totals()).last
        if any(name not in sets or not counts.keys() <= sets[name].elements.keys() for name, counts in last.items()):
            self._take(host)

    def apply(self, change: Change, host: Host) -> None:
        self._know(change.before)
        if change.force or _handed_on(change.before, change.after):
            # what came until now was for those who had the addresses before
            self._take(host)
        self._know(change.after)

    def drift(self, state: RouterState, host: Host) -> str | None:
        if self._owners is None:
            self._know(state)
        if time.monotonic() - self._read >= READ_EVERY:
            self._take(host)
        return None

    def traffic(self, state: RouterState, host: Host) -> Traffic | None:
        if self._owners is None:
            self._know(state)
        self._take(host)
        totals = self._totals
        if totals is None:
            return None
        return Traffic(epoch=totals.epoch, taken=totals.taken, counters=totals.counters())

    def metrics(self, state: RouterState, host: Host) -> str:
        lines: list[str] = []
        totals = (self._totals or Totals()).totals.items()
        for unit, index in (("packets", 0), ("bytes", 1)):
            metric = f"gatehouse_traffic_{unit}_total"
            lines += [f"# HELP {metric} Traffic of a public address or a guest, in and out", f"# TYPE {metric} counter"]
            lines += [
                f'{metric}{{kind="{one.kind}",direction="{way}",address="{one.address}",id="{id}"}} {count[index]}'
                for id, one in totals
                for way, count in (("in", one.received), ("out", one.sent))
            ]
        return "\n".join(lines) + "\n"

    def _know(self, state: RouterState | None) -> None:
        if state is not None:
            self._owners, self._sets = owners(state), _sets(state)

    def _take(self, host: Host) -> None:
        """Read the counters and have the totals on disk; only then are they told to anybody."""
        if self._owners is None:
            return
        with self._lock:
            before = self._totals or _load(host.settings)
            after = advance(
                before, host.netfilter.counters(self._sets), self._owners, _boot(host.settings), time.time()
            )
            self._read = time.monotonic()
            if before.boot == after.boot and before.last == after.last and self._totals is not None:
                self._totals = after
                return
            try:
                replace_file(_file(host.settings), after.model_dump_json().encode(), flush=True)
            except OSError as error:
                # nothing to repair on the router; the kernel goes on counting, and the next reading has it all
                log.error("traffic totals are not on disk: %s; free some space in %s", error, host.settings.state_dir)
            else:
                self._totals = after


def owners(state: RouterState) -> Owners:
    """Whose total the traffic of each address is added to."""
    accounting, hosts = state.accounting, state.dhcp.hosts if state.dhcp else ()
    return {
        "public": {str(one.address): one.id for one in accounting.addresses} if accounting else {},
        "guest": {str(host.address): host.id for host in hosts},
        "vpn": {str(network.network_address): one.id for one in accounting.vpn for network in one.networks}
        if accounting
        else {},
    }


def _sets(state: RouterState) -> frozenset[str]:
    """Names of the sets that count."""
    vpns = state.accounting.vpn if state.accounting else ()
    lengths = {network.prefixlen for one in vpns for network in one.networks}
    some = {vpn_set(length, direction) for length in lengths for direction in ("in", "out")}
    return frozenset(some.union(name for name, (kind, _) in SETS.items() if kind != "vpn"))


def _handed_on(before: RouterState | None, after: RouterState | None) -> bool:
    """Whether an address is somebody else's now."""
    if before is None or after is None:
        return False
    then, now = owners(before), owners(after)
    return any(now[kind].get(address, id) != id for kind, known in then.items() for address, id in known.items())


def _file(settings: Settings) -> Path:
    return settings.state_dir / "accounting.json"


def _load(settings: Settings) -> Totals:
    try:
        return Totals.model_validate_json(_file(settings).read_bytes())
    except FileNotFoundError:
        pass
    except ValidationError as error:
        log.error("traffic totals begin at zero: %s is damaged: %s", _file(settings), error)
    return Totals(epoch=uuid.uuid4().hex)


def _boot(settings: Settings) -> str:
    """A token that lives as long as the kernel's counters: the run directory is lost with the namespace."""
    path = settings.run_dir / "accounting.boot"
    try:
        return path.read_text("ascii")
    except FileNotFoundError:
        path.write_text(uuid.uuid4().hex, "ascii")
        return path.read_text("ascii")


SERVICE = AccountingService()
