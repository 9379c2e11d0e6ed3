"""Totals that only grow, whatever happens to the kernel's counters."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from router.services.accounting.totals import KEPT, Total, Totals, advance


@given(st.lists(st.tuples(st.integers(0, 1000), st.sampled_from(["on", "reboot", "read"]))))
def test_totals_are_all_that_was_counted_before_a_reading(steps: list[tuple[int, str]]) -> None:
    """Traffic, readings and reboots in any order; what was not read before a reboot is lost."""
    totals, kernel, boot, expected = Totals(), 0, 0, 0
    unread = 0
    for count, event in steps:
        kernel += count
        unread += count
        if event == "reboot":
            kernel, unread, boot = 0, 0, boot + 1
        elif event == "read":
            totals = advance(totals, {"in": {"192.0.2.1": (kernel, kernel * 10)}}, str(boot), 0.0)
            expected, unread = expected + unread, 0
            assert totals.sets["in"]["192.0.2.1"].total == (expected, expected * 10)


def test_a_counter_below_its_last_reading_has_started_over() -> None:
    before = Totals(boot="a", sets={"in": {"192.0.2.1": Total(total=(9, 900), last=(5, 500))}})
    after = advance(before, {"in": {"192.0.2.1": (2, 200)}}, "a", 0.0)
    assert after.sets["in"]["192.0.2.1"].total == (11, 1100)


def test_totals_of_an_address_that_went_away_are_kept_for_a_day() -> None:
    totals = advance(Totals(), {"in": {"192.0.2.1": (1, 100)}}, "a", 1000.0)
    later = advance(totals, {"in": {}}, "a", 1000.0 + KEPT - 1)
    assert later.sets["in"]["192.0.2.1"].total == (1, 100)
    assert advance(later, {"in": {}}, "a", 1000.0 + KEPT + 1).sets["in"] == {}


def test_totals_survive_the_disk() -> None:
    totals = advance(Totals(), {"in": {"192.0.2.1": (1, 100)}}, "a", 1000.0)
    assert Totals.model_validate_json(totals.model_dump_json()) == totals
