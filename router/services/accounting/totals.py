"""Totals that only grow, from kernel counters that begin again at zero now and then. Pure.

A kernel counter starts over when the router reboots, when its element is deleted and added, when someone flushes the
ruleset. What it grew since the last reading is added to the total; a counter below its last reading has started
over, and so has every counter after a reboot, which the ``boot`` token tells.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from appliance.schema.traffic import Counter, Kind
from appliance.schema.types import Frozen

Direction = Literal["received", "sent"]
#: packets, bytes
Count = tuple[int, int]
#: set -> address -> counter
Reading = Mapping[str, Mapping[str, Count]]
#: kind -> address -> id
Owners = Mapping[Kind, Mapping[str, str]]


def vpn_set(length: int, direction: str) -> str:
    """Name of the set that counts what came ("in") from VPNs' networks with that length of prefix, or goes ("out")."""
    return f"account_vpn{length}_{direction}"


#: set name -> what it counts
SETS: Mapping[str, tuple[Kind, Direction]] = {
    "account_public_in": ("public", "received"),
    "account_public_out": ("public", "sent"),
    "account_guest_in": ("guest", "received"),
    "account_guest_out": ("guest", "sent"),
    **{vpn_set(length, "in"): ("vpn", "received") for length in range(33)},
    **{vpn_set(length, "out"): ("vpn", "sent") for length in range(33)},
}

#: seconds that the totals of a subject are kept after it went away
KEPT = 7 * 86400.0


class Total(Frozen):
    """One subject's totals since the beginning, and when it was read last (UNIX seconds)."""

    kind: Kind
    address: str
    received: Count = (0, 0)
    sent: Count = (0, 0)
    seen: float = 0.0


class Totals(Frozen):
    """All counters of a router, as kept on disk. ``last`` is what the kernel said last, in boot ``boot``."""

    epoch: str = ""
    boot: str = ""
    taken: float = 0.0
    last: dict[str, dict[str, Count]] = Field(default_factory=dict)
    #: by id
    totals: dict[str, Total] = Field(default_factory=dict)

    def counters(self) -> tuple[Counter, ...]:
        return tuple(
            Counter(id=id, kind=one.kind, address=one.address, received=one.received[1], sent=one.sent[1])
            for id, one in self.totals.items()
        )


def advance(before: Totals, reading: Reading, owners: Owners, boot: str, now: float) -> Totals:
    """Take in a reading of the kernel's counters made at ``now`` in the boot called ``boot``.

    What a counter grew goes to who ``owners`` says has the address, to the address itself where they say nothing.
    """
    totals = {id: total for id, total in before.totals.items() if now - total.seen < KEPT}
    for name, counts in reading.items():
        kind, direction = SETS[name]
        last = before.last.get(name, {}) if before.boot == boot else {}
        for address, count in counts.items():
            id = owners.get(kind, {}).get(address, address)
            known = totals.get(id) or Total(kind=kind, address=address)
            grown = _add(getattr(known, direction), count, last.get(address, (0, 0)))
            totals[id] = known.model_copy(update={direction: grown, "address": address, "seen": now})
    return Totals(
        epoch=before.epoch,
        boot=boot,
        taken=now,
        last={name: dict(counts) for name, counts in reading.items()},
        totals=totals,
    )


def _add(total: Count, count: Count, last: Count) -> Count:
    start = last if count[0] >= last[0] and count[1] >= last[1] else (0, 0)
    return (total[0] + count[0] - start[0], total[1] + count[1] - start[1])
