"""How many console proxies there are, and which one serves."""

from __future__ import annotations

from dataclasses import replace

import pytest

from controlplane.systemvms.capacity import Action, Limits, SystemVm, choose, plan

LIMITS = Limits(disabled=False, minimum=0, most=3, session_max=10, standby=4, idle_wait=100.0, restart_wait=60.0)


def proxy(id: str, sessions: int = 0, state: str = "Running", idle: float = 0.0, **values: float) -> SystemVm:
    return SystemVm(id=id, state=state, sessions=sessions, idle=idle, **values)  # type: ignore[arg-type]


def kinds(actions: list[Action]) -> list[tuple[str, str | None]]:
    return [(action.kind, action.vm_id) for action in actions]


def test_a_zone_where_nobody_asks_has_none() -> None:
    assert plan(LIMITS, [], wanted=False) == []


def test_the_first_console_asked_for_brings_one() -> None:
    assert kinds(plan(LIMITS, [], wanted=True)) == [("launch", None)]
    # and not another while that one starts
    assert kinds(plan(LIMITS, [proxy("a", state="Starting")], wanted=True)) == [("boot", "a")]
    assert plan(LIMITS, [replace(proxy("a", state="Starting"), busy=True)], wanted=True) == []


def test_the_minimum_is_there_without_anybody_asking() -> None:
    assert kinds(plan(replace(LIMITS, minimum=2), [proxy("a")], wanted=False)) == [("launch", None)]
    assert plan(replace(LIMITS, minimum=2), [proxy("a"), proxy("b", idle=1e6)], wanted=False) == []


@pytest.mark.parametrize(("sessions", "launched"), [(6, False), (7, True), (10, True)])
def test_another_starts_before_the_last_is_full(sessions: int, launched: bool) -> None:
    assert bool(plan(LIMITS, [proxy("a", sessions)], wanted=False)) is launched


def test_room_that_is_being_started_counts() -> None:
    coming = replace(proxy("b", state="Starting"), busy=True)
    assert plan(LIMITS, [proxy("a", 9), coming], wanted=False) == []


def test_an_idle_zone_does_not_fill_up_when_one_proxy_takes_less_than_the_standby() -> None:
    assert plan(replace(LIMITS, session_max=2, standby=10), [proxy("a")], wanted=False) == []


def test_never_more_than_the_most() -> None:
    assert plan(LIMITS, [proxy("a", 10), proxy("b", 10), proxy("c", 10)], wanted=True) == []


def test_an_idle_one_goes_after_its_time_the_youngest_first() -> None:
    idle = [proxy("a", 1), proxy("b", idle=101.0), proxy("c", idle=101.0)]
    assert kinds(plan(LIMITS, idle, wanted=False)) == [("remove", "c")]
    assert plan(LIMITS, [proxy("a", 1), proxy("b", idle=99.0)], wanted=False) == []


def test_an_idle_one_stays_while_its_room_is_the_standby() -> None:
    assert plan(LIMITS, [proxy("a", 7), proxy("b", idle=1e6)], wanted=False) == []


def test_the_last_one_goes_too() -> None:
    assert kinds(plan(LIMITS, [proxy("a", idle=101.0)], wanted=False)) == [("remove", "a")]
    assert plan(LIMITS, [proxy("a", idle=101.0)], wanted=True) == []


def test_one_that_does_not_answer_is_restarted_and_replaced_when_that_fails() -> None:
    assert kinds(plan(LIMITS, [proxy("a", 3, silent=61.0)], wanted=False)) == [("restart", "a")]
    assert plan(LIMITS, [proxy("a", 3, silent=59.0)], wanted=False) == [Action("launch")]
    assert kinds(plan(LIMITS, [proxy("a", state="Error")], wanted=True)) == [("remove", "a"), ("launch", None)]


def test_what_an_operator_stopped_stays_stopped_and_counts_for_nothing() -> None:
    assert plan(LIMITS, [proxy("a", state="Stopped", idle=1e6)], wanted=False) == []
    assert kinds(plan(LIMITS, [proxy("a", state="Stopped")], wanted=True)) == [("launch", None)]


def test_disabled_zones_lose_theirs() -> None:
    there = [proxy("a", 5), replace(proxy("b"), busy=True)]
    assert kinds(plan(replace(LIMITS, disabled=True, minimum=1), there, wanted=True)) == [("remove", "a")]


def test_a_guest_goes_back_to_the_proxy_it_had() -> None:
    there = [proxy("a"), proxy("b", 9), proxy("c", silent=6.0)]
    assert choose(LIMITS, there, "b") == "b"
    assert choose(LIMITS, there, None) == "a"
    # full, silent or gone: the first with room
    assert choose(LIMITS, [proxy("a"), proxy("b", 10)], "b") == "a"
    assert choose(LIMITS, there, "c") == "a"
    assert choose(LIMITS, there, "gone") == "a"
    assert choose(LIMITS, [proxy("b", 10)], "b") is None
