"""A machine for the engine that lives in memory (but for its files) and fails where a test wants it to.

Three made-up services ``a``, ``b`` (after ``a``) and ``c`` (after ``b``): each renders a file or two, a set in the
ruleset and one daemon that reads its file when it starts and when it is told to; ``a`` also keeps kernel state.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any
from unittest import mock

from appliance.engine import engine as engine_module
from appliance.engine import files
from appliance.engine.catalogue import ordered
from appliance.engine.engine import Engine
from appliance.engine.parse import Parsed, Parser
from appliance.engine.service import BaseService, Change, File, Host, Rendered, Unit
from appliance.engine.store import Store
from appliance.errors import ApplyError, ProbeError
from appliance.netfilter.ruleset import Ruleset, Set
from appliance.schema.envelope import Document
from appliance.schema.types import Frozen
from appliance.settings import Settings


class State(Frozen):
    """The versions that the services are to be at; None turns one off."""

    a: int | None = None
    b: int | None = None
    c: int | None = None


class Killed(BaseException):
    """The agent is killed here: nothing after this runs."""


@dataclass
class Daemon:
    unit: Unit
    config: str
    pid: int


@dataclass
class World:
    """What outlives the agent. ``fault`` is called before each step that touches it, and may raise."""

    root: Path
    table: Ruleset | None = None
    generation: int = 0
    daemons: dict[str, Daemon] = field(default_factory=dict)
    addresses: int | None = None
    fault: Callable[[str], None] = lambda _: None
    log: list[str] = field(default_factory=list)
    _pids: Iterator[int] = field(default_factory=lambda: count(100))

    @property
    def settings(self) -> Settings:
        names = ("config", "run", "state", "identity", "log")
        return Settings(**{f"{name}_dir": self.root / name for name in names})  # type: ignore[arg-type]

    def step(self, what: str) -> None:
        self.log.append(what)
        self.fault(what)

    def next_pid(self) -> int:
        return next(self._pids)

    def picture(self) -> dict[str, Any]:
        """Everything that must be wholly old or wholly new."""
        config = self.settings.config_dir
        return {
            "files": {str(path.relative_to(config)): path.read_text() for path in files.below(config)},
            "table": self.table,
            "daemons": {name: (daemon.unit.argv[2], daemon.config) for name, daemon in self.daemons.items()},
            "addresses": self.addresses,
        }


class FakeNetfilter:
    def __init__(self, world: World) -> None:
        self._world = world

    def apply(self, before: Ruleset | None, after: Ruleset | None) -> None:
        if after is not None and any("refuse" in entry.elements for entry in after.sets.values()):
            raise ApplyError("the kernel refuses")
        self._world.step("netfilter apply")
        assert before is None or before == self._world.table, "a difference to what the kernel does not hold"
        self._world.table = after
        self._world.generation += 1
        self._world.step("netfilter applied")

    def generation(self) -> int:
        return self._world.generation

    def counters(self, names: Collection[str]) -> dict[str, dict[str, tuple[int, int]]]:
        return {name: {} for name in names}

    def matches(self, ruleset: Ruleset) -> bool:
        self._world.log.append("netfilter matches")
        return self._world.table == ruleset


class FakeSupervisor:
    def __init__(self, world: World) -> None:
        self._world = world

    def _config(self, unit: Unit) -> str:
        return Path(unit.argv[1]).read_text()

    def start(self, unit: Unit) -> None:
        running = self._world.daemons.get(unit.name)
        if running is not None and running.unit == unit:
            return
        self._world.step(f"start {unit.name}")
        self._world.daemons[unit.name] = Daemon(unit, self._config(unit), self._world.next_pid())
        self._world.step(f"started {unit.name}")

    def stop(self, name: str) -> None:
        self._world.step(f"stop {name}")
        self._world.daemons.pop(name, None)

    def restart(self, name: str) -> None:
        unit = self._world.daemons[name].unit
        self.stop(name)
        self.start(unit)

    def signal(self, name: str, number: int) -> None:
        self._world.step(f"signal {name}")
        daemon = self._world.daemons[name]
        daemon.config = self._config(daemon.unit)

    def pid(self, name: str) -> int | None:
        daemon = self._world.daemons.get(name)
        return daemon.pid if daemon else None

    def log_tail(self, name: str, lines: int = 20) -> str:
        return f"last words of {name}"

    def names(self) -> frozenset[str]:
        return frozenset(self._world.daemons)


class FakeService(BaseService):
    """Version N: file ``N`` (odd versions a second one), element N, a daemon whose arguments change every third."""

    def __init__(self, world: World, name: str, after: tuple[str, ...] = ()) -> None:
        self.name, self.after, self.inputs = name, after, (name,)
        self._world = world

    def render(self, state: Any, settings: Settings) -> Rendered:
        self._world.log.append(f"render {self.name}")
        version = getattr(state, self.name)
        if version is None:
            return Rendered()
        directory = settings.config_dir / self.name
        config = directory / "main.conf"
        texts = {config: File(f"{self.name} {version}", mode=0o600)}
        if version % 2:
            texts[directory / "odd" / "extra.conf"] = File(f"extra {version}")
        elements = {"refuse" if version == 666 else str(version): ""}
        return Rendered(
            files=texts,
            ruleset=Ruleset(sets={f"{self.name}_set": Set("type ipv4_addr;", elements)}),
            units=(Unit(f"{self.name}d", (f"/sbin/{self.name}d", str(config), str(version // 3))),),
        )

    def check(self, rendered: Rendered, staged: Mapping[Path, Path], host: Host) -> None:
        self._world.step(f"check {self.name}")
        for final, copy in staged.items():
            assert rendered.files[final].text == copy.read_text()

    def part(self, change: Change, host: Host) -> None:
        self._world.step(f"part {self.name}")

    def apply(self, change: Change, host: Host) -> None:
        self._world.step(f"apply {self.name}")
        version = getattr(change.after, self.name) if change.after is not None else None
        if version is not None and f"{self.name}d" not in change.started:
            host.supervisor.signal(f"{self.name}d", signal.SIGHUP)
        if self.name == "a":
            self._world.addresses = version
            self._world.step("addresses set")

    def drift(self, state: Any, host: Host) -> str | None:
        if self.name == "a" and self._world.addresses != state.a:
            return f"addresses are {self._world.addresses}"
        return None

    def probe(self, state: Any, host: Host) -> None:
        self._world.step(f"probe {self.name}")
        version = getattr(state, self.name)
        if version is None:
            return
        if version == 404:
            raise ProbeError("does not answer")
        daemon = self._world.daemons.get(f"{self.name}d")
        if daemon is None or daemon.config != f"{self.name} {version}":
            raise ApplyError(f"{self.name}d runs {daemon}, not version {version}")


BASE = Ruleset(chains={"input": "type filter hook input priority filter; policy drop;"})


def make_engine(world: World) -> Engine:
    """An agent starts."""
    services = ordered([FakeService(world, "c", ("b",)), FakeService(world, "b", ("a",)), FakeService(world, "a")])
    host = Host(world.settings, FakeSupervisor(world), FakeNetfilter(world))
    engine = Engine(host, services, Parser("router", Document[State]), BASE)
    engine.guard()
    engine.restore()
    return engine


def document(generation: int, a: int | None = None, b: int | None = None, c: int | None = None) -> bytes:
    state = {"a": a, "b": b, "c": c}
    return json.dumps({"kind": "router", "id": "r-1", "generation": generation, "state": state}).encode()


def parsed(engine: Engine, generation: int, a: int | None = None, b: int | None = None, c: int | None = None) -> Parsed:
    return engine.parser.parse(document(generation, a, b, c))


class AtOnce:
    """An executor without a thread, so that steps come in the same order every time."""

    def __init__(self, *_: object) -> None:
        pass

    def submit(self, work: Callable[..., None], *arguments: object) -> Future[None]:
        future: Future[None] = Future()
        try:
            work(*arguments)
            future.set_result(None)
        except Exception as error:
            future.set_exception(error)
        return future


@contextmanager
def watched(world: World) -> Iterator[None]:
    """Have every step on files and on the store go through ``world.step`` too, before it and after it."""

    def around(target: object, name: str) -> Any:
        real = getattr(target, name)

        def call(*args: Any, **named: Any) -> Any:
            world.step(name)
            result = real(*args, **named)
            world.step(f"{name} done")
            return result

        return mock.patch.object(target, name, call)

    with (
        around(files, "swap"),
        around(files, "_write"),
        around(Store, "prepare"),
        around(Store, "commit"),
        around(Store, "record"),
        mock.patch.object(engine_module, "PROBE_DEADLINE", 0.0),
        mock.patch.object(engine_module, "ThreadPoolExecutor", AtOnce),
        mock.patch.object(os, "fsync"),
    ):
        yield
