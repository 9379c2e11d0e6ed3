"""When the counters are read: before what they say would be lost or be somebody else's, not at every change."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from appliance.engine.service import Change, Host
from appliance.settings import Settings
from router.document import RouterState
from router.services.accounting.service import AccountingService
from tests.documents import small_state


@dataclass
class Counting:
    """A netfilter with counters; every reading finds a packet of 100 bytes more."""

    addresses: set[str]
    readings: int = 0

    def counters(self, names: Collection[str]) -> dict[str, dict[str, tuple[int, int]]]:
        self.readings += 1
        return {"account_guest_in": dict.fromkeys(self.addresses, (self.readings, 100 * self.readings))}


@dataclass
class World:
    host: Host
    netfilter: Counting
    service: AccountingService = field(default_factory=AccountingService)

    def change(self, before: RouterState, after: RouterState) -> int:
        """How often the counters were read for a change."""
        count = self.netfilter.readings
        self.service.check(self.service.render(after, self.host.settings), {}, self.host)
        self.service.apply(Change(before, after), self.host)
        return self.netfilter.readings - count

    def received(self) -> dict[str, int]:
        assert self.service._totals is not None
        return {id: total.received[1] for id, total in self.service._totals.totals.items()}


@pytest.fixture
def world(tmp_path: Path) -> World:
    settings = replace(Settings(), run_dir=tmp_path, state_dir=tmp_path)
    netfilter: Any = Counting({"10.1.1.10", "10.1.1.11"})
    return World(Host(settings, netfilter, netfilter), netfilter)


def state(**guests: str) -> RouterState:
    """Guests by name: their addresses end in these numbers."""
    raw = small_state()
    raw["dhcp"]["hosts"] = [
        {
            "id": name,
            "interface": "eth0",
            "mac": f"02:00:00:00:00:{int(last):02x}",
            "address": f"10.1.1.{last}",
            "name": name,
        }
        for name, last in guests.items()
    ]
    raw["metadata"]["guests"], raw["passwords"]["pending"] = [], []
    raw["nat"]["static"], raw["nat"]["forwards"] = [], []
    return RouterState.model_validate(raw)


def test_a_new_guest_costs_no_reading(world: World) -> None:
    two, three = state(alice="10", bob="11"), state(alice="10", bob="11", carol="12")
    world.service.drift(two, world.host)
    assert world.change(two, three) == 0


def test_a_guest_that_goes_is_read_before(world: World) -> None:
    two, one = state(alice="10", bob="11"), state(alice="10")
    world.service.drift(two, world.host)
    assert world.change(two, one) == 1
    assert world.received() == {"alice": 200, "bob": 200}


def test_an_address_that_is_handed_on_is_read_for_the_one_who_had_it(world: World) -> None:
    before, after = state(alice="10", bob="11"), state(alice="10", carol="11")
    world.service.drift(before, world.host)
    assert world.change(before, after) == 1
    told = world.service.traffic(after, world.host)
    assert told is not None
    assert world.received() == {"alice": 300, "bob": 200, "carol": 100}


def test_the_epoch_lives_as_long_as_the_file(world: World) -> None:
    two = state(alice="10", bob="11")
    first = world.service.traffic(two, world.host)
    again = AccountingService().traffic(two, world.host)
    assert first is not None and again is not None and first.epoch == again.epoch
    (world.host.settings.state_dir / "accounting.json").write_text("{")
    other = AccountingService().traffic(two, world.host)
    assert other is not None and other.epoch != first.epoch
