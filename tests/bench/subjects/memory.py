"""Memory of an idle router with everything on: proportional set size of each process."""

from __future__ import annotations

import re
import statistics
from collections.abc import Iterator
from pathlib import Path

from controlplane.hypervisors.namespace.processes import members
from tests.bench import cloud
from tests.bench.figures import Figure, Target
from tests.netns.lab import Lab, Router
from tests.wait import wait_for

ORDER = 8


def measure(quick: bool) -> Iterator[Figure]:
    with cloud.lab() as lab:
        router = cloud.boot(lab, cloud.state(lab, rules=1, guests=2), lab.segment(), lab.segment("public"))
        router.wait_healthy()
        wait_for(lambda: _settled(lab, router), 20, "the router's memory to settle", interval=1.0)
        rounds = [sizes(lab, router) for _ in range(3)]
    names = rounds[0]
    each = {name: statistics.median(sizes.get(name, 0.0) for sizes in rounds) for name in names}
    for name, size in sorted(each.items(), key=lambda item: -item[1]):
        yield Figure(f"memory of an idle router: {name}", "MB PSS", [size])
    totals = [sum(sizes.values()) for sizes in rounds]
    yield Figure("memory of an idle router: all", "MB PSS", totals, Target("at most", 80))


def _settled(lab: Lab, router: Router) -> bool:
    before, after = (sum(sizes(lab, router).values()) for _ in range(2))
    return abs(before - after) < 0.5


def sizes(lab: Lab, router: Router) -> dict[str, float]:
    """Megabytes of PSS by process (proc(5), smaps_rollup); a page shared by n processes counts 1/n to each."""
    sizes: dict[str, float] = {}
    record = lab.hypervisor._process(router.id)
    assert record is not None
    for pid in (record.pid, *members(record.pid)):
        try:
            words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
            found = re.search(r"^Pss:\s+(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
        except OSError:
            continue
        if found is None:
            continue
        name = _name(words)
        sizes[name] = sizes.get(name, 0.0) + int(found[1]) / 1024
    return sizes


def _name(words: list[str]) -> str:
    """``appliance.agent`` for a Python module, else the program's name."""
    if "-m" in words:
        return words[words.index("-m") + 1]
    return Path(words[0]).name
