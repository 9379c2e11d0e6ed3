"""Totals that only grow, from kernel counters that begin again at zero now and then. Pure.

A kernel counter starts over when the router reboots, when its element is deleted and added, when someone flushes the
ruleset. What it grew since the last reading is added to the total; a counter below its last reading has started
over, and so has every counter after a reboot, which the ``boot`` token tells.
"""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field

from appliance.schema.types import Frozen

#: packets, bytes
Count = tuple[int, int]
#: set -> address -> counter
Reading = Mapping[str, Mapping[str, Count]]

#: seconds that the totals of an address are kept after it went away
KEPT = 86400.0


class Total(Frozen):
    """One counter's total since the beginning, what the kernel said last, and when that was (UNIX seconds)."""

    total: Count = (0, 0)
    last: Count = (0, 0)
    seen: float = 0.0


class Totals(Frozen):
    """All counters of a router, as kept on disk."""

    boot: str = ""
    sets: dict[str, dict[str, Total]] = Field(default_factory=dict)


def advance(before: Totals, reading: Reading, boot: str, now: float) -> Totals:
    """Take in a reading of the kernel's counters made at ``now`` in the boot called ``boot``."""
    sets: dict[str, dict[str, Total]] = {}
    for name in before.sets.keys() | reading.keys():
        old = before.sets.get(name, {})
        entries = {address: total for address, total in old.items() if now - total.seen < KEPT}
        for address, count in reading.get(name, {}).items():
            known = old.get(address, Total())
            start = known.last if before.boot == boot and _grew(known.last, count) else (0, 0)
            entries[address] = Total(
                total=(known.total[0] + count[0] - start[0], known.total[1] + count[1] - start[1]),
                last=count,
                seen=now,
            )
        sets[name] = entries
    return Totals(boot=boot, sets=sets)


def _grew(last: Count, count: Count) -> bool:
    return count[0] >= last[0] and count[1] >= last[1]
