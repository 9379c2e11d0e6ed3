"""Load balancing: haproxy, told of members by its runtime API, reloaded with its sockets for everything else."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from appliance.engine.service import BaseService, Change, Host, Rendered
from appliance.errors import ApplyError, CheckFailedError, CommandError, ProbeError
from appliance.run import run
from appliance.settings import Settings
from router.document import RouterState
from router.services.loadbalancer import runtime
from router.services.loadbalancer.model import LbCookie, LoadBalancer
from router.services.loadbalancer.render import (
    PEER,
    PROGRAM,
    UNIT,
    balanced,
    config_file,
    digest,
    render,
    server_options,
    socket_file,
    states_file,
)

#: seconds that haproxy may take to start or to reload
PATIENCE = 10.0

_DESCRIPTION = re.compile(rb"^ +description (\w+)$", re.MULTILINE)

_COUNTERS = (
    ("sessions", "Connections, or requests of an HTTP rule, that a member was given"),
    ("bytes_in", "Bytes from clients to a member"),
    ("bytes_out", "Bytes from a member to clients"),
)


def _until(done: Callable[[], bool], what: str, host: Host) -> None:
    deadline = time.monotonic() + PATIENCE
    while not done():
        if host.supervisor.pid(UNIT) is None or time.monotonic() > deadline:
            raise ApplyError(f"haproxy did not {what}: {host.supervisor.log_tail(UNIT)}")
        time.sleep(0.005)


def _reload(host: Host, wanted: str) -> None:
    """Have a new worker take over; the old one ends when its last connection does."""
    path = socket_file(host.settings)
    try:
        states_file(host.settings).write_text(runtime.ask(path, "show servers state"), "ascii")
    except OSError as error:
        raise ApplyError(f"haproxy does not tell its members' states: {error}") from error
    host.supervisor.signal(UNIT, signal.SIGUSR2)
    _until(lambda: runtime.description(path) == wanted, "reload", host)


def _bring_members(balancer: LoadBalancer, host: Host) -> None:
    """Add and remove servers where the running haproxy differs; raises ApplyError when it then still does."""
    path = socket_file(host.settings)
    try:
        now = runtime.servers(path)
        commands = [
            command
            for rule in balancer.rules
            for command in runtime.changes(
                rule.id,
                now.get(rule.id, {}),
                [member.name for member in rule.members],
                server_options(rule),
                cookies=isinstance(rule.stickiness, LbCookie),
            )
        ]
        if not commands:
            return
        answer = runtime.ask(path, *commands)
        now = runtime.servers(path)
    except OSError as error:
        raise ApplyError(f"haproxy's runtime socket does not answer: {error}") from error
    for rule in balancer.rules:
        for member in rule.members:
            if now.get(rule.id, {}).get(member.name, True):
                raise ApplyError(f"haproxy did not take member {member.name} of rule {rule.id}: {answer.strip()}")


class LoadBalancerService(BaseService):
    name = "loadbalancer"
    after = ("interfaces", "firewall")
    inputs = ("loadbalancer", "interfaces", "firewall")

    def render(self, state: RouterState, settings: Settings) -> Rendered:
        return render(state, settings)

    def check(self, rendered: Rendered, staged: Mapping[Path, Path], host: Host) -> None:
        current = config_file(host.settings)
        config = staged.get(current)
        if config is None:
            return
        text = config.read_bytes()
        if current.exists() and _DESCRIPTION.findall(current.read_bytes()) == _DESCRIPTION.findall(text):
            return  # members more or less: this configuration has been checked
        for final, copy in staged.items():
            text = text.replace(f" crt {final}".encode(), f" crt {copy}".encode())
        trial = config.with_suffix(".trial")
        trial.write_bytes(text)
        try:
            run([PROGRAM, "-c", "-L", PEER, "-f", str(trial)])
        except CommandError as error:
            raise CheckFailedError(f"haproxy refuses its configuration: {error.stderr.strip()}") from error

    def apply(self, change: Change, host: Host) -> None:
        balancer = balanced(change.after)
        if balancer is None:
            return
        wanted, path = digest(balancer, host.settings), socket_file(host.settings)
        if UNIT in change.started:
            _until(lambda: runtime.description(path) == wanted, "start", host)
        elif runtime.description(path) != wanted:
            _reload(host, wanted)
        _bring_members(balancer, host)

    def probe(self, state: RouterState, host: Host) -> None:
        balancer = balanced(state)
        if balancer is None:
            return
        try:
            listening, _ = runtime.statistics(socket_file(host.settings))
        except OSError as error:
            raise ProbeError(f"haproxy does not answer: {error}; {host.supervisor.log_tail(UNIT, 3)}") from error
        for rule in balancer.rules:
            if listening.get(rule.id) != "OPEN":
                raise ProbeError(f"haproxy does not listen on {rule.address}:{rule.port}, {listening.get(rule.id)}")

    def metrics(self, state: RouterState, host: Host) -> str:
        if balanced(state) is None:
            return ""
        try:
            _, found = runtime.statistics(socket_file(host.settings))
        except OSError:
            return ""  # the probe tells that haproxy is down
        label = '{{rule="{0.proxy}",member="{0.name}"}}'.format
        lines = [
            "# HELP gatehouse_loadbalancer_member_up Whether a member passes its health checks",
            "# TYPE gatehouse_loadbalancer_member_up gauge",
            *(f"gatehouse_loadbalancer_member_up{label(one)} {int(one.status == 'UP')}" for one in found),
        ]
        for name, text in _COUNTERS:
            metric = f"gatehouse_loadbalancer_{name}_total"
            lines += [f"# HELP {metric} {text}", f"# TYPE {metric} counter"]
            lines += [f"{metric}{label(one)} {getattr(one, name)}" for one in found]
        return "\n".join(lines) + "\n"

    def report(self, host: Host) -> Any:
        """``{"members": {rule id: {"address:port": "Up" or "Down"}}}`` of those in rotation; None without haproxy."""
        try:
            _, found = runtime.statistics(socket_file(host.settings))
        except OSError:
            return None
        members: dict[str, dict[str, str]] = {}
        for one in found:
            if one.status != "MAINT":
                members.setdefault(one.proxy, {})[one.name] = "Up" if one.status == "UP" else "Down"
        return {"members": members}


SERVICE = LoadBalancerService()
