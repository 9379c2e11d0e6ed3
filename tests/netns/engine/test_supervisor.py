"""The direct supervisor with real processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest

from appliance.engine import direct
from appliance.engine.direct import DirectSupervisor
from appliance.engine.service import Unit
from appliance.errors import ApplyError
from appliance.settings import Settings
from tests.wait import wait_for

SLEEP = Unit("sleep", ("/bin/sleep", "1000"))


class Box:
    """Directories of one appliance, and every supervisor that was made for it."""

    def __init__(self, root: Path) -> None:
        self.settings = Settings(run_dir=root / "run", log_dir=root / "log", state_dir=root / "state")
        self.restarts: list[tuple[str, str]] = []
        self.made: list[DirectSupervisor] = []

    def supervisor(self) -> DirectSupervisor:
        made = DirectSupervisor(self.settings)
        made.watch(lambda name, reason: self.restarts.append((name, reason)))
        self.made.append(made)
        return made


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    made = Box(tmp_path)
    yield made
    for supervisor in made.made:
        for name in supervisor.names():
            supervisor.stop(name)


def running(pid: int | None) -> bool:
    if pid is None:
        return False
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def status(pid: int, name: str) -> str:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        key, _, value = line.partition(":")
        if key == name:
            return value.strip()
    raise KeyError(name)


def is_sleep(pid: int) -> bool:
    return status(pid, "Name") == "sleep"


def test_a_killed_unit_is_back_at_once_and_the_reason_is_told(box: Box) -> None:
    supervisor = box.supervisor()
    supervisor.start(SLEEP)
    first = supervisor.pid("sleep")
    assert first is not None
    begin = time.monotonic()
    os.kill(first, signal.SIGKILL)
    second = wait_for(lambda: (pid := supervisor.pid("sleep")) not in (None, first) and pid, 5, "the unit to be back")
    assert time.monotonic() - begin < 1
    assert running(int(second))
    assert box.restarts == [("sleep", "sleep was ended by SIGKILL; started again")]


def test_starting_what_runs_does_nothing_and_a_new_definition_replaces_it(box: Box) -> None:
    supervisor = box.supervisor()
    supervisor.start(SLEEP)
    first = supervisor.pid("sleep")
    supervisor.start(SLEEP)
    assert supervisor.pid("sleep") == first
    supervisor.start(replace(SLEEP, argv=("/bin/sleep", "2000")))
    assert supervisor.pid("sleep") != first
    assert not running(first)
    assert box.restarts == []


def test_stop_ends_what_ignores_sigterm_and_its_children(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(direct, "STOP_DEADLINE", 0.3)
    supervisor = box.supervisor()
    script = "trap '' TERM; sleep 1000 & echo ready $!; while :; do sleep 1; done"
    supervisor.start(Unit("stubborn", ("/bin/sh", "-c", script)))
    tail = wait_for(lambda: supervisor.log_tail("stubborn"), 5, "the unit to be ready")
    pid, child = supervisor.pid("stubborn"), int(tail.split()[1])
    supervisor.stop("stubborn")
    assert not running(pid)
    wait_for(lambda: not running(child), 5, "its child to end")
    assert supervisor.names() == frozenset()
    assert box.restarts == []


def test_signal_reaches_the_unit(box: Box) -> None:
    supervisor = box.supervisor()
    script = "trap 'echo again' HUP; echo ready; while :; do sleep 0.05; done"
    supervisor.start(Unit("reloads", ("/bin/sh", "-c", script)))
    wait_for(lambda: "ready" in supervisor.log_tail("reloads"), 5)
    supervisor.signal("reloads", signal.SIGHUP)
    wait_for(lambda: "again" in supervisor.log_tail("reloads"), 20, "the reload")
    with pytest.raises(ApplyError, match="does not run"):
        supervisor.signal("unknown", signal.SIGHUP)


def test_a_missing_program_is_an_error_or_shows_in_the_log(box: Box) -> None:
    supervisor = box.supervisor()
    supervisor.start(Unit("missing", ("/no/such/program",)))
    wait_for(lambda: "/no/such/program" in supervisor.log_tail("missing"), 5)
    wait_for(lambda: supervisor.pid("missing") is None, 5)


def test_a_unit_that_cannot_be_noted_down_does_not_go_on_unseen(box: Box, tmp_path: Path) -> None:
    supervisor = box.supervisor()
    # in the way of the record, as a full file system would be
    obstacle = box.settings.run_dir / "units/.shell.new"
    obstacle.mkdir()
    unit = Unit("shell", ("/bin/sh", "-c", f"echo $$ >>{tmp_path}/pids; exec sleep 1000"))
    with pytest.raises(OSError, match="Is a directory"):
        supervisor.start(unit)
    assert supervisor.names() == frozenset()
    obstacle.rmdir()
    supervisor.start(unit)
    pid = str(supervisor.pid("shell"))
    wait_for(lambda: pid in (tmp_path / "pids").read_text().split(), 5, "the unit to run")
    pids = (tmp_path / "pids").read_text().split()
    assert [one for one in pids if running(int(one))] == [pid]


def test_a_unit_that_keeps_ending_is_started_at_growing_distances(box: Box) -> None:
    supervisor = box.supervisor()
    supervisor.start(Unit("brief", ("/bin/sh", "-c", "date +%s.%N")))
    wait_for(lambda: len(supervisor.log_tail("brief").split()) >= 5, 10)
    times = [float(line) for line in supervisor.log_tail("brief").split()]
    gaps = [after - before for before, after in pairwise(times)]
    assert gaps[3] > 2 * gaps[0]
    assert gaps[3] > 0.7


def holds(pid: int, wanted: set[str]) -> bool:
    """Whether the open files of a process are the wanted ones, and no others."""
    found = {str(entry.readlink()) for entry in Path(f"/proc/{pid}/fd").iterdir()}
    assert found == wanted
    return True


def test_units_have_only_what_they_need(box: Box) -> None:
    supervisor = box.supervisor()
    supervisor.start(replace(SLEEP, name="root-unit", capabilities=frozenset({"net_bind_service"})))
    supervisor.start(replace(SLEEP, name="user-unit", user="nobody", capabilities=frozenset({"net_raw"})))
    supervisor.start(replace(SLEEP, name="bare-unit", user="nobody"))
    wanted = {"root-unit": (0, 1 << 10), "user-unit": (65534, 1 << 13), "bare-unit": (65534, 0)}
    for name, (uid, capabilities) in wanted.items():
        pid = supervisor.pid(name)
        assert pid is not None
        wait_for(partial(is_sleep, pid), 5, f"{name} to be itself")
        assert int(status(pid, "Uid").split()[1]) == uid
        for kind in ("CapBnd", "CapEff", "CapPrm"):
            assert int(status(pid, kind), 16) == capabilities, (name, kind)
        assert status(pid, "NoNewPrivs") == "1"
        if uid:
            assert status(pid, "Groups") in ("", "65534")
        environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        assert {entry.partition(b"=")[0] for entry in environment} <= {
            b"PATH",
            b"LANG",
            b"PYTHONPATH",
            b"GATEHOUSE_UNIT",
            b"",
        }
        # sleep(1) reads its locale first
        own = {"/dev/null", str(box.settings.log_dir / f"{name}.log")}
        wait_for(partial(holds, pid, own), 5, f"{name} to have {own} open")


def test_writable_directories_belong_to_the_user(box: Box, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    target = tmp_path / "run" / "deep" / "leases"
    box.supervisor().start(replace(SLEEP, user="nobody", writable=(target,)))
    assert target.stat().st_uid == 65534


def test_the_next_agent_adopts_what_runs_and_brings_it_back_too(box: Box) -> None:
    box.supervisor().start(SLEEP)
    pid = box.made[0].pid("sleep")
    assert pid is not None
    # in the process of an agent before this one the units are not ours to wait for
    second = box.supervisor()
    assert second.names() == {"sleep"}
    second.start(SLEEP)
    assert second.pid("sleep") == pid


AGENT = """
import sys, time
from pathlib import Path
from appliance.engine.direct import DirectSupervisor
from appliance.engine.service import Unit
from appliance.settings import Settings
root = Path(sys.argv[1])
supervisor = DirectSupervisor(Settings(run_dir=root / "run", log_dir=root / "log", state_dir=root / "state"))
supervisor.start(Unit("sleep", ("/bin/sleep", "1000")))
supervisor.start(Unit("other", ("/bin/sleep", "1001")))
print(supervisor.pid("sleep"), supervisor.pid("other"), flush=True)
time.sleep(1000)
"""


@pytest.fixture
def dead_agent(tmp_path: Path) -> tuple[int, int]:
    """An agent started two units and was killed; their process ids."""
    with subprocess.Popen([sys.executable, "-c", AGENT, str(tmp_path)], stdout=subprocess.PIPE, text=True) as agent:
        assert agent.stdout is not None
        first, second = map(int, agent.stdout.readline().split())
        agent.kill()
    assert running(first)
    return first, second


def test_units_outlive_a_killed_agent_and_are_watched_by_the_next(box: Box, dead_agent: tuple[int, int]) -> None:
    supervisor = box.supervisor()
    assert supervisor.names() == {"sleep", "other"}
    supervisor.start(SLEEP)
    assert supervisor.pid("sleep") == dead_agent[0]
    os.kill(dead_agent[0], signal.SIGKILL)
    wait_for(lambda: supervisor.pid("sleep") not in (None, dead_agent[0]), 5, "the adopted unit to be back")
    assert box.restarts == [("sleep", "sleep ended; started again")]
    supervisor.stop("other")
    assert not running(dead_agent[1])


def test_a_reused_process_number_is_not_adopted(box: Box, dead_agent: tuple[int, int]) -> None:
    path = box.settings.run_dir / "units" / "sleep"
    record = json.loads(path.read_text())
    path.write_text(json.dumps(record | {"start": record["start"] - 1}))
    supervisor = box.supervisor()
    assert supervisor.names() == {"other"}
    # and what carries our mark without being noted down is ended
    wait_for(lambda: not running(dead_agent[0]), 5)
    assert running(dead_agent[1])


def test_a_unit_started_by_an_agent_that_did_not_note_it_down_is_ended(box: Box, dead_agent: tuple[int, int]) -> None:
    (box.settings.run_dir / "units" / "sleep").unlink()
    (box.settings.run_dir / "units" / "other").write_text("{")
    supervisor = box.supervisor()
    assert supervisor.names() == frozenset()
    wait_for(lambda: not any(map(running, dead_agent)), 5)


def test_logs_are_kept_small(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(direct, "LOG_LIMIT", 10_000)
    monkeypatch.setattr(direct, "LOG_INTERVAL", 0.05)
    supervisor = box.supervisor()
    script = "i=0; while :; do i=$((i+1)); echo line $i with some words to fill it; done"
    supervisor.start(Unit("chatty", ("/bin/sh", "-c", script)))
    log, old = box.settings.log_dir / "chatty.log", box.settings.log_dir / "chatty.log.1"
    wait_for(old.exists, 5, "the log to be moved aside")
    supervisor.stop("chatty")
    wait_for(lambda: log.stat().st_size <= 10_000, 5, "the log to be small")
