"""Totals that only grow, whatever happens to the kernel's counters."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from router.services.accounting.totals import KEPT, Owners, Totals, advance

GUEST = "10.1.1.10"
ALICE: Owners = {"guest": {GUEST: "alice"}}
BOB: Owners = {"guest": {GUEST: "bob"}}


def read(
    totals: Totals, packets: int, size: int, *, owners: Owners = ALICE, boot: str = "a", now: float = 0.0
) -> Totals:
    """A reading of the one counter of what the guest received."""
    return advance(totals, {"account_guest_in": {GUEST: (packets, size)}}, owners, boot, now)


@given(st.lists(st.tuples(st.integers(0, 1000), st.sampled_from(["on", "reboot", "read", "owner"]))))
def test_totals_are_all_that_was_counted_before_a_reading(steps: list[tuple[int, str]]) -> None:
    """Traffic, readings, reboots and new owners in any order; what was not read before a reboot is lost."""
    totals, kernel, boot, unread = Totals(), 0, 0, 0
    expected = {"alice": 0, "bob": 0}
    owner = "alice"
    for count, event in steps:
        kernel += count
        unread += count
        if event == "reboot":
            kernel, unread, boot = 0, 0, boot + 1
        elif event != "on":
            known = ALICE if owner == "alice" else BOB
            totals = read(totals, kernel, kernel * 10, owners=known, boot=str(boot))
            expected[owner] += unread
            unread = 0
            if event == "owner":
                owner = "bob" if owner == "alice" else "alice"
    found = {id: total.received for id, total in totals.totals.items()}
    assert {id: (count, count * 10) for id, count in expected.items() if count} == {
        id: count for id, count in found.items() if count != (0, 0)
    }


def test_a_counter_below_its_last_reading_has_started_over() -> None:
    after = read(read(Totals(), 5, 500), 2, 200)
    assert after.totals["alice"].received == (7, 700)
    assert after.totals["alice"].sent == (0, 0)


def test_an_address_that_came_back_begins_at_zero() -> None:
    totals = read(Totals(), 5, 500)
    gone = advance(totals, {"account_guest_in": {}}, ALICE, "a", 1.0)
    assert read(gone, 6, 600, owners=BOB).totals["bob"].received == (6, 600)


def test_totals_of_who_went_away_are_kept_for_days() -> None:
    totals = read(Totals(), 1, 100, now=1000.0)
    later = advance(totals, {"account_guest_in": {}}, ALICE, "a", 1000.0 + KEPT - 1)
    assert later.totals["alice"].received == (1, 100)
    assert advance(later, {"account_guest_in": {}}, ALICE, "a", 1000.0 + KEPT + 1).totals == {}


def test_all_networks_behind_a_vpn_are_one_total() -> None:
    owners: Owners = {"vpn": {"10.2.0.0": "connection", "10.3.4.0": "connection"}}
    reading = {
        "account_vpn16_in": {"10.2.0.0": (1, 100)},
        "account_vpn24_in": {"10.3.4.0": (2, 200)},
        "account_vpn24_out": {"10.3.4.0": (3, 300)},
    }
    [total] = advance(Totals(), reading, owners, "a", 1.0).totals.values()
    assert (total.kind, total.received, total.sent) == ("vpn", (3, 300), (3, 300))


def test_an_address_of_nobody_goes_by_itself() -> None:
    totals = advance(Totals(epoch="e"), {"account_public_out": {"203.0.113.2": (1, 100)}}, {}, "a", 5.0)
    [counter] = totals.counters()
    assert counter.model_dump() == {
        "id": "203.0.113.2",
        "kind": "public",
        "address": "203.0.113.2",
        "received": 0,
        "sent": 100,
    }
    assert (totals.epoch, totals.taken) == ("e", 5.0)


def test_totals_survive_the_disk() -> None:
    totals = read(Totals(epoch="e"), 1, 100, now=1000.0)
    assert Totals.model_validate_json(totals.model_dump_json()) == totals
