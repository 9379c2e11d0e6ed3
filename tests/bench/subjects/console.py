"""The console relay on one core beside websockify and a relay that only copies."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from typing import Any

from tests.bench.console.relays import Relay, relays
from tests.bench.figures import Figure, Target, interleaved

ORDER = 9


def measure(quick: bool) -> Iterator[Figure]:
    seconds, rounds = (2, 2) if quick else (5, 5)
    with relays("ws") as found:
        yield from _throughput(found, seconds, rounds, "in the clear")
        yield from _echo(found, seconds, rounds)
    with relays("wss") as found:
        yield from _throughput(found, seconds, rounds, "with TLS")
        yield _frames(found["console"], seconds, rounds)
        yield _memory(found["console"], 50 if quick else 200)


def _rates(found: dict[str, Relay], seconds: int, rounds: int) -> dict[str, list[float]]:
    """MB for each second of processor time: what is at the other ends does not level them."""
    runs = interleaved(rounds, **{name: partial(one.load, "stream", seconds) for name, one in found.items()})
    return {name: [run["bytes"] / run["busy"] / 1e6 for run in some] for name, some in runs.items()}


def _throughput(found: dict[str, Relay], seconds: int, rounds: int, how: str) -> Iterator[Figure]:
    rates = _rates(found, seconds, rounds)
    for name, least in (("plain", 0.75), ("websockify", 1.4)):
        if name in rates:
            yield Figure(
                f"console: throughput of one core {how}",
                "MB/s",
                rates["console"],
                Target("at least", least, of="ratio"),
                "a relay that only copies" if name == "plain" else name,
                rates[name],
            )


def _echo(found: dict[str, Relay], seconds: int, rounds: int) -> Iterator[Figure]:
    names = ("console", "websockify")
    runs: dict[str, list[dict[str, Any]]] = interleaved(
        rounds, **{name: partial(found[name].load, "echo", seconds, 50) for name in names}
    )
    for part in ("p50", "p99"):
        yield Figure(
            f"console: 10 bytes there and back, 50 sessions, {part}",
            "ms",
            [1000 * run[part] for run in runs["console"]],
            Target("at most", 1, of="ratio"),
            "websockify",
            [1000 * run[part] for run in runs["websockify"]],
        )


def _frames(relay: Relay, seconds: int, rounds: int) -> Figure:
    """The relay's processor time while 100 sessions get 20 frames of 16 KiB a second."""
    shares, sent = [], []
    for _ in range(rounds):
        process = relay.start("frames", seconds + 1, 100)
        assert process.stdout is not None
        process.stdout.readline()
        before = relay.busy()
        line = process.stdout.readline()
        shares.append(100 * relay.busy_since(before) / (seconds + 1))
        sent.append(line.strip())
        process.communicate("\n", timeout=30)
    return Figure(
        "console: 100 sessions at 20 frames/s of 16 KB, with TLS",
        "% of a core",
        shares,
        Target("at most", 10),
        details={"loads": sent},
    )


def _memory(relay: Relay, number: int) -> Figure:
    relay.load("echo", 1, 5)
    before = relay.memory()
    process = relay.start("idle", 0, number)
    assert process.stdout is not None
    assert json.loads(process.stdout.readline()) == {"sessions": number}
    each = (relay.memory() - before) / number / 1024
    process.communicate("\n", timeout=30)
    return Figure(f"console: memory of an idle session with TLS, of {number}", "KiB", [each], Target("at most", 64))
