"""The engine: one rule added to 10,000, a cold router of 10,000 rules and 1,000 guests, one guest added to 1,000."""

from __future__ import annotations

import re
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

from tests.bench import cloud
from tests.bench.figures import Figure, Target
from tests.documents import Raw
from tests.netns.lab import Lab, Router

ORDER = 1

_STAGE = re.compile(r'^gatehouse_attempt_stage_seconds\{stage="([a-z]+)"\} ([0-9.e-]+)$', re.MULTILINE)


def measure(quick: bool) -> Iterator[Figure]:
    rules, guests, rounds = (1_000, 100, 5) if quick else (10_000, 1_000, 15)
    with cloud.lab() as lab:
        inside, outside = lab.segment(), lab.segment("public")
        raw = cloud.state(lab, rules=rules, guests=guests)
        begin = time.monotonic()
        router = cloud.boot(lab, raw, inside, outside)
        cold = time.monotonic() - begin
        stages = {"cold": _stages(router)}
        yield from _steps(router, raw, rules, guests, rounds)
        yield from _guests_alone(lab, guests, rounds)
        router.stop()
        begin = time.monotonic()
        router.start()
        router.wait_healthy()
        again = time.monotonic() - begin
    yield Figure(
        f"cold router: boot to {rules:,} rules and {guests:,} guests served",
        "s",
        [cold],
        Target("at most", 3.0),
        details={"stages": stages["cold"]},
    )
    yield Figure("the same router, power on to healthy from its own last-good state", "s", [again])


def _steps(router: Router, raw: Raw, rules: int, guests: int, rounds: int) -> Iterator[Figure]:
    added = _repeat(router, raw, rounds, lambda number: _add_rule(raw, number))
    yield Figure(
        f"one rule added to {rules:,}: engine", "ms", added["engine"], Target("at most", 100), details=added["details"]
    )
    yield Figure(f"one rule added to {rules:,}: push to answer", "ms", added["push"])
    before = router.processes()
    joined = _repeat(router, raw, rounds, lambda number: cloud.add_guest(raw, guests + number))
    restarted = [command for pid, command in before.items() if router.processes().get(pid) != command]
    yield Figure(
        f"one guest added to {guests:,}, beside {rules:,} rules: engine",
        "ms",
        joined["engine"],
        Target("at most", 100),
        details=joined["details"],
    )
    yield Figure("daemons restarted by that", "", [len(restarted)], Target("at most", 0), details={"which": restarted})


def _guests_alone(lab: Lab, guests: int, rounds: int) -> Iterator[Figure]:
    raw = cloud.state(lab, rules=0, guests=guests)
    router = cloud.boot(lab, raw, lab.segment(), lab.segment("public"))
    joined = _repeat(router, raw, rounds, lambda number: cloud.add_guest(raw, guests + number))
    router.stop()
    yield Figure(
        f"one guest added to {guests:,}: engine",
        "ms",
        joined["engine"],
        Target("at most", 100),
        details=joined["details"],
    )


def _repeat(router: Router, raw: Raw, rounds: int, change: Callable[[int], None]) -> dict[str, Any]:
    """Change the state and push it, ``rounds`` times: milliseconds of the engine and of the whole push."""
    engine, push, stages = [], [], []
    for number in range(rounds):
        change(number)
        document = router.document(raw)
        begin = time.monotonic()
        status = router.push_document(document)
        push.append((time.monotonic() - begin) * 1000)
        assert status.attempt and status.generation == router.generation, status.attempt
        engine.append(status.attempt.seconds * 1000)
        stages.append(_stages(router))
    medians = {name: round(statistics.median(entry.get(name, 0.0) for entry in stages) * 1000, 2) for name in stages[0]}
    return {"engine": engine, "push": push, "details": {"stage_ms": medians}}


def _add_rule(raw: Raw, number: int) -> None:
    """A forward of a new port, and the firewall rule that opens it."""
    ports = {"first": 1000 + number, "last": 1000 + number}
    raw["nat"]["forwards"].append({**raw["nat"]["forwards"][0], "id": f"added-{number}", "ports": ports})
    raw["firewall"]["ingress"].append({**raw["firewall"]["ingress"][0], "id": f"added-{number}", "ports": ports})


def _stages(router: Router) -> dict[str, float]:
    return {stage: float(seconds) for stage, seconds in _STAGE.findall(router.metrics())}
