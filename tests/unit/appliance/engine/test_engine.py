"""The transaction: a whole document or nothing, whatever fails and wherever the agent is killed."""

from __future__ import annotations

import errno
import hashlib
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from appliance.engine.engine import Engine
from appliance.engine.service import Rendered
from appliance.errors import ApplyError, DocumentError
from appliance.netfilter.ruleset import Ruleset
from appliance.settings import Settings
from tests.unit.appliance.engine.world import (
    BASE,
    FakeService,
    Killed,
    State,
    World,
    document,
    make_engine,
    parsed,
    watched,
)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    with watched(made):
        yield made


def apply(engine: Engine, generation: int, a: int | None = None, b: int | None = None, c: int | None = None) -> str:
    return engine.apply(parsed(engine, generation, a, b, c)).outcome


def fail_at(what: str, error: BaseException) -> Callable[[str], None]:
    def fault(step: str) -> None:
        if step == what:
            raise error

    return fault


def test_applies_files_ruleset_daemons_and_kernel_state(world: World) -> None:
    engine = make_engine(world)
    assert world.table == BASE
    assert apply(engine, 1, a=1, b=2) == "applied"
    picture = world.picture()
    assert picture["files"] == {"a/main.conf": "a 1", "a/odd/extra.conf": "extra 1", "b/main.conf": "b 2"}
    assert {name: config for name, (_, config) in picture["daemons"].items()} == {"ad": "a 1", "bd": "b 2"}
    assert world.table is not None
    assert world.table.sets.keys() == {"a_set", "b_set"}
    assert world.table.chains == BASE.chains
    assert engine.applied.generation == 1
    main = world.settings.config_dir / "a" / "main.conf"
    assert main.stat().st_mode & 0o777 == 0o600


def test_what_a_document_leaves_out_is_removed(world: World) -> None:
    engine = make_engine(world)
    apply(engine, 1, a=1, b=2, c=3)
    assert apply(engine, 2, a=1) == "applied"
    assert world.picture()["files"].keys() == {"a/main.conf", "a/odd/extra.conf"}
    assert world.daemons.keys() == {"ad"}
    assert world.table is not None
    assert world.table.sets.keys() == {"a_set"}
    # the one that others come after stops last
    stops = [step for step in world.log if step.startswith("stop")]
    assert stops == ["stop cd", "stop bd"]


def test_a_second_time_does_nothing(world: World) -> None:
    engine = make_engine(world)
    apply(engine, 1, a=1, b=2)
    world.log.clear()
    assert apply(engine, 1, a=1, b=2) == "applied"
    assert world.log == []


def test_a_new_generation_of_the_same_state_is_only_noted(world: World) -> None:
    engine = make_engine(world)
    apply(engine, 1, a=1, b=2)
    world.log.clear()
    assert apply(engine, 2, a=1, b=2) == "applied"
    assert set(world.log) <= {"prepare", "prepare done", "commit", "commit done", "record", "record done"}
    assert engine.applied.generation == 2
    world.log.clear()
    assert make_engine(world).applied.generation == 2
    assert not [step for step in world.log if "start" in step or "apply" in step]


def test_only_the_services_whose_input_changed_are_touched(world: World) -> None:
    engine = make_engine(world)
    apply(engine, 1, a=1, b=2, c=3)
    world.log.clear()
    apply(engine, 2, a=1, b=4, c=3)
    assert {step.partition(" ")[2] for step in world.log if step.startswith(("render", "check", "apply", "probe"))} == {
        "b"
    }


def test_services_are_applied_in_order(world: World) -> None:
    engine = make_engine(world)
    apply(engine, 1, a=1, b=2, c=3)
    assert [step for step in world.log if step.startswith("apply ")][-3:] == ["apply a", "apply b", "apply c"]
    # a unit starts when what it comes after is in place
    assert world.log.index("addresses set", world.log.index("start ad")) < world.log.index("start bd")


@pytest.mark.parametrize(
    ("step", "stage", "service", "outcome"),
    [
        ("check b", "check", "b", "refused"),
        ("prepare", "commit", "", "refused"),
        ("record", "files", "", "rolled-back"),
        ("swap", "files", "a", "rolled-back"),
        ("netfilter apply", "netfilter", "", "rolled-back"),
        ("start bd", "units", "b", "rolled-back"),
        ("signal ad", "reload", "a", "rolled-back"),
        ("apply b", "reload", "b", "rolled-back"),
        ("probe b", "probe", "b", "rolled-back"),
        ("commit", "commit", "", "rolled-back"),
    ],
)
def test_a_failure_leaves_the_old_state_and_names_stage_and_service(
    world: World, step: str, stage: str, service: str, outcome: str
) -> None:
    engine = make_engine(world)
    apply(engine, 1, a=1, b=2)
    before = world.picture()
    failing = iter([ApplyError("broken on purpose")])

    def once(now: str) -> None:
        if now == step and (error := next(failing, None)):
            raise error

    world.fault = once
    attempt = engine.apply(parsed(engine, 2, a=2, b=5, c=7))
    assert attempt.outcome == outcome
    assert (attempt.problems[0].stage, attempt.problems[0].service) == (stage, service)
    assert attempt.problems[0].message == "broken on purpose"
    assert world.picture() == before
    assert engine.applied.generation == 1
    world.fault = lambda _: None
    assert apply(engine, 3, a=2, b=5, c=7) == "applied"


def test_a_probe_that_fails_for_good_rolls_back(world: World) -> None:
    engine = make_engine(world)
    apply(engine, 1, a=1, b=2)
    before = world.picture()
    attempt = engine.apply(parsed(engine, 2, a=1, b=404))
    assert (attempt.outcome, attempt.problems[0].message) == ("rolled-back", "does not answer")
    assert world.picture() == before


def test_a_daemon_that_ends_fails_the_probe_with_its_last_words(world: World) -> None:
    engine = make_engine(world)

    def end(step: str) -> None:
        if step == "apply b":
            world.daemons.pop("bd", None)

    world.fault = end
    attempt = engine.apply(parsed(engine, 1, a=1, b=2))
    assert attempt.outcome == "rolled-back"
    assert "last words of bd" in attempt.problems[0].message


def test_a_ruleset_that_the_kernel_refuses_comes_before_anything_changes(world: World) -> None:
    engine = make_engine(world)
    apply(engine, 1, a=1)
    world.log.clear()
    attempt = engine.apply(parsed(engine, 2, a=666))
    assert (attempt.outcome, attempt.problems[0].stage) == ("rolled-back", "netfilter")
    assert not [step for step in world.log if step in ("swap", "netfilter apply", "apply a")]


def test_goodbyes_come_first_and_stop_nothing(world: World) -> None:
    engine = make_engine(world)
    apply(engine, 1, a=1, b=1)
    world.log.clear()
    world.fault = fail_at("part a", OSError("nobody there"))
    assert apply(engine, 2, a=2, b=2) == "applied"
    steps = [step for step in world.log if step in ("part a", "part b", "netfilter apply", "swap", "apply a")]
    assert steps[:3] == ["part a", "part b", "netfilter apply"]


def test_a_full_disk_is_said_so(world: World) -> None:
    engine = make_engine(world)
    apply(engine, 1, a=1)
    before = world.picture()
    world.fault = fail_at("prepare", OSError(errno.ENOSPC, "No space left on device"))
    attempt = engine.apply(parsed(engine, 2, a=2))
    assert attempt.outcome == "refused"
    assert "No space left on device; free some space" in attempt.problems[0].message
    assert world.picture() == before


def test_two_services_may_not_render_the_same_file(world: World) -> None:
    engine = make_engine(world)
    first, second = engine.services[0], engine.services[1]
    with mock.patch.object(second, "render", first.render):
        attempt = engine.apply(parsed(engine, 1, a=2))
    assert attempt.outcome == "refused"
    assert "two services" in attempt.problems[0].message


def test_bad_documents_name_the_field(world: World) -> None:
    engine = make_engine(world)
    with pytest.raises(DocumentError) as caught:
        engine.parser.parse(document(1, a=1).replace(b'"a": 1', b'"a": "x"'))
    assert caught.value.problems[0][0] == "a"
    with pytest.raises(DocumentError, match="not JSON"):
        engine.parser.parse(b"{")
    with pytest.raises(DocumentError, match="kind"):
        engine.parser.parse(document(1).replace(b'"router"', b'"ssvm"'))
    with pytest.raises(DocumentError):
        engine.parser.parse(b"[]")


# ---- restarts


def test_a_new_agent_adopts_what_runs(world: World) -> None:
    apply(make_engine(world), 1, a=1, b=2)
    before, pids = world.picture(), {name: daemon.pid for name, daemon in world.daemons.items()}
    generation = world.generation
    world.log.clear()
    engine = make_engine(world)
    engine.watch()
    assert engine.applied.generation == 1
    assert (world.picture(), world.generation) == (before, generation)
    assert {name: daemon.pid for name, daemon in world.daemons.items()} == pids
    assert not [step for step in world.log if step.startswith(("swap", "netfilter apply", "start", "apply"))]


def test_a_newer_agent_that_renders_otherwise_brings_that_about(world: World) -> None:
    apply(make_engine(world), 1, a=1)
    before = world.table
    real = FakeService.render

    def newer(service: FakeService, state: State, settings: Settings) -> Rendered:
        rendered = real(service, state, settings)
        return replace(rendered, ruleset=Ruleset(sets=dict(rendered.ruleset.sets), chains={f"new_{service.name}": ""}))

    with mock.patch.object(FakeService, "render", newer):
        engine = make_engine(world)
        assert world.table == before
        engine.watch()
        assert world.table is not None
        assert "new_a" in world.table.chains


def test_a_unit_that_ended_while_no_agent_ran_is_started_and_recorded(world: World) -> None:
    apply(make_engine(world), 1, a=1, b=2)
    before = world.picture()
    del world.daemons["bd"]
    engine = make_engine(world)
    assert world.picture() == before
    assert [(repair.service, repair.number) for repair in engine.repairs.newest] == [("b", 1)]


def test_a_reboot_comes_back_to_last_good(world: World) -> None:
    apply(make_engine(world), 1, a=1, b=2)
    before = world.picture()
    # a reboot: the kernel, the processes and run_dir are new
    world.table, world.generation, world.addresses = None, 0, None
    world.daemons.clear()
    (world.settings.run_dir / "machine.json").unlink()
    tables = []
    world.fault = lambda step: tables.append(world.table) if step == "swap" else None
    make_engine(world)
    assert world.picture() == before
    assert all(table == BASE for table in tables)


@pytest.mark.parametrize("damage", ["truncated", "tampered", "empty", "garbage", "other schema"])
def test_damaged_last_good_is_reported_and_waits_for_a_document(world: World, damage: str) -> None:
    apply(make_engine(world), 1, a=1, b=2)
    before = world.picture()
    path = world.settings.state_dir / "last-good"
    content = path.read_bytes()
    body = content.partition(b"\n")[2].replace(b'"b": 2', b'"b": "x"')
    path.write_bytes(
        {
            "truncated": content[:-20],
            "tampered": content.replace(b'"b": 2', b'"b": 7'),
            "empty": b"",
            "garbage": bytes(range(256)) * 9,
            "other schema": f"sha256:{hashlib.sha256(body).hexdigest()}\n".encode() + body,
        }[damage]
    )
    engine = make_engine(world)
    assert engine.trouble
    assert engine.applied.generation == 0
    engine.watch()
    # what runs goes on running
    assert world.picture() == before
    assert apply(engine, 2, a=4) == "applied"
    assert not engine.trouble
    assert world.daemons.keys() == {"ad"}
    assert world.picture()["files"].keys() == {"a/main.conf"}


# ---- drift


def test_a_changed_file_is_put_right_and_its_daemon_told(world: World) -> None:
    engine = make_engine(world)
    apply(engine, 1, a=1, b=2)
    before = world.picture()
    (world.settings.config_dir / "b" / "main.conf").write_text("b 99")
    world.daemons["bd"].config = "b 99"
    engine.watch()
    assert world.picture() == before
    assert engine.repairs.newest[-1].service == "b"
    assert "main.conf was changed" in engine.repairs.newest[-1].reason
    world.log.clear()
    engine.watch()
    assert world.log == []


def test_a_removed_file_and_a_changed_mode_are_put_right(world: World) -> None:
    engine = make_engine(world)
    apply(engine, 1, a=1, b=2)
    before = world.picture()
    (world.settings.config_dir / "a" / "main.conf").chmod(0o666)
    (world.settings.config_dir / "b" / "main.conf").unlink()
    engine.watch()
    assert world.picture() == before
    assert (world.settings.config_dir / "a" / "main.conf").stat().st_mode & 0o777 == 0o600
    assert [repair.service for repair in engine.repairs.newest] == ["a", "b"]


def test_a_flushed_ruleset_is_put_back(world: World) -> None:
    engine = make_engine(world)
    apply(engine, 1, a=1)
    table = world.table
    world.table, world.generation = None, world.generation + 1
    engine.watch()
    assert world.table == table
    assert engine.repairs.newest[-1].service == "netfilter"


def test_someone_elses_table_is_no_drift(world: World) -> None:
    engine = make_engine(world)
    apply(engine, 1, a=1)
    world.generation += 1
    engine.watch()
    assert engine.repairs.newest == ()
    world.log.clear()
    engine.watch()
    assert "netfilter matches" not in world.log
    # nor for the next agent
    engine = make_engine(world)
    engine.watch()
    assert engine.repairs.newest == ()


def test_a_document_may_follow_a_flush_at_once(world: World) -> None:
    engine = make_engine(world)
    apply(engine, 1, a=1)
    world.table, world.generation = None, world.generation + 1
    assert apply(engine, 2, a=2) == "applied"
    assert world.table is not None
    assert world.table.sets["a_set"].elements == {"2": ""}


def test_kernel_state_that_a_service_watches_is_put_right(world: World) -> None:
    engine = make_engine(world)
    apply(engine, 1, a=1)
    world.addresses = 77
    engine.watch()
    assert world.addresses == 1
    assert engine.repairs.newest[-1].reason == "addresses are 77"


def test_drift_that_comes_back_at_once_is_repaired_at_growing_distances(world: World) -> None:
    engine = make_engine(world)
    apply(engine, 1, a=1)
    now = [1000.0]
    times = []
    with mock.patch.object(time, "monotonic", lambda: now[0]):
        for _ in range(200):
            world.addresses = 77
            engine.watch()
            if world.addresses == 1:
                times.append(now[0] - 1000)
            now[0] += 1
    assert times == [0, 1, 3, 7, 15, 31, 63, 123, 183]


def test_repairs_count_up_over_restarts(world: World) -> None:
    for number in (1, 2, 3):
        engine = make_engine(world)
        apply(engine, 1, a=1)
        world.addresses = 77
        engine.watch()
        assert engine.repairs.count == number
    for _ in range(150):
        engine.repairs.add("a", "again")
    assert (len(engine.repairs.newest), engine.repairs.count) == (100, 153)


def test_a_repair_that_fails_is_recorded_and_tried_again(world: World) -> None:
    engine = make_engine(world)
    apply(engine, 1, a=1)
    before = world.picture()
    world.addresses = 77
    world.fault = fail_at("apply a", ApplyError("no such device"))
    engine.watch()
    assert engine.repairs.newest[-1].error == "no such device"
    assert engine.trouble
    world.fault = lambda _: None
    engine.watch()
    assert world.picture() == before
    assert not engine.trouble


# ---- anything fails anywhere

VERSION = st.none() | st.integers(0, 9)
VERSIONS = st.tuples(VERSION, VERSION, VERSION)
THOROUGH = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])


class Faults:
    """Raises at the given counts of steps."""

    def __init__(self, at: set[int], make: Callable[[], BaseException]) -> None:
        self.at, self.make, self.steps = at, make, 0

    def __call__(self, _: str) -> None:
        self.steps += 1
        if self.steps in self.at:
            raise self.make()


@THOROUGH
@given(old=VERSIONS, new=VERSIONS, at=st.integers(1, 120))
def test_one_failure_anywhere_leaves_the_old_state(
    old: tuple[int | None, ...], new: tuple[int | None, ...], at: int
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        world = World(Path(directory))
        with watched(world):
            engine = make_engine(world)
            assert apply(engine, 1, *old) == "applied"
            before = world.picture()
            world.fault = Faults({at}, lambda: OSError(errno.EIO, "fault"))
            outcome = apply(engine, 2, *new)
            world.fault = lambda _: None
            if outcome != "applied":
                assert world.picture() == before
                assert engine.applied.generation == 1
                assert engine.attempt is not None
                assert engine.attempt.problems
            assert apply(engine, 3, *new) == "applied"
            assert world.picture() == expected(new)


@THOROUGH
@given(old=VERSIONS, new=VERSIONS, at=st.sets(st.integers(1, 120), min_size=2, max_size=20))
@example(old=(None, None, 0), new=(None, 0, 0), at={16, 19})  # a daemon that was started and could not be stopped
def test_failures_of_the_rollback_too_end_in_the_old_state_once_they_stop(
    old: tuple[int | None, ...], new: tuple[int | None, ...], at: set[int]
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        world = World(Path(directory))
        with watched(world):
            engine = make_engine(world)
            assert apply(engine, 1, *old) == "applied"
            before = world.picture()
            world.fault = Faults(at, lambda: OSError(errno.EIO, "fault"))
            outcome = apply(engine, 2, *new)
            world.fault = lambda _: None
            engine.watch()
            assert world.picture() == (expected(new) if outcome == "applied" else before)


@THOROUGH
@given(old=VERSIONS, new=VERSIONS, at=st.lists(st.integers(1, 120), min_size=1, max_size=3))
def test_a_kill_anywhere_leaves_old_or_new(
    old: tuple[int | None, ...], new: tuple[int | None, ...], at: list[int]
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        world = World(Path(directory))
        with watched(world):
            engine = make_engine(world)
            assert apply(engine, 1, *old) == "applied"
            before = world.picture()
            # killed while applying, and while coming back from that
            for step in at:
                world.fault = Faults({step}, Killed)
                with suppress(Killed):
                    if engine.applied.generation < 2:
                        apply(engine, 2, *new)
                with suppress(Killed):
                    engine = make_engine(world)
            world.fault = lambda _: None
            engine = make_engine(world)
            generation = engine.applied.generation
            assert world.picture() == (before if generation == 1 else expected(new))
            assert apply(engine, 3, *new) == "applied"
            assert world.picture() == expected(new)


def expected(versions: tuple[int | None, ...]) -> dict[str, object]:
    """The picture of a fresh machine brought to ``versions``."""
    with tempfile.TemporaryDirectory() as directory:
        world = World(Path(directory))
        assert apply(make_engine(world), 1, *versions) == "applied"
        return world.picture()
