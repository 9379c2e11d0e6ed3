"""How busy a host is, from counters."""

from __future__ import annotations

from controlplane.hypervisors import load
from controlplane.hypervisors.load import Meter


def test_it_is_the_share_of_the_time_since_the_last_look() -> None:
    meter = Meter()
    assert meter.percent(1000, 9000) is None
    assert meter.percent(1300, 9100) == 75.0
    assert meter.percent(1300, 9200) == 0.0


def test_a_host_that_restarted_or_was_asked_twice_says_nothing() -> None:
    meter = Meter()
    meter.percent(1000, 9000)
    assert meter.percent(1000, 9000) is None
    assert meter.percent(10, 20) is None
    assert meter.percent(20, 30) == 50.0


def test_this_machine_has_figures() -> None:
    used, idle = load.processor_times()
    assert used > 0 and idle > 0
    assert load.memory_used() > 1 << 20
