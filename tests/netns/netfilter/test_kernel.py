"""Rulesets in a real kernel, in network namespaces made for one call each."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TypeVar

import pytest
from hypothesis import given, settings

from appliance.errors import ApplyError
from appliance.netfilter.base import guard
from appliance.netfilter.compare import differences
from appliance.netfilter.kernel import Netfilter
from appliance.netfilter.libnftables import run
from appliance.netfilter.ruleset import Ruleset, Set
from tests.unit.appliance.netfilter.rulesets import rulesets

Result = TypeVar("Result")

NETFILTER = Netfilter()
FORWARDS = Set(
    "type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service;",
    {f"203.0.113.{n % 250} . tcp . {n + 1}": f"10.1.1.{n % 250} . 80" for n in range(1000)},
    is_map=True,
)
TRAFFIC = Set("type ipv4_addr;", {"203.0.113.1": "", "203.0.113.2": ""}, counted=True)
SMALL = replace(guard("eth1", 9443), sets={"forwards": FORWARDS, "traffic": TRAFFIC})


def isolated(work: Callable[[], Result]) -> Result:
    """Call ``work`` in a network namespace of its own, which goes with the thread."""

    def inside() -> Result:
        assert ctypes.CDLL(None, use_errno=True).unshare(0x40000000) == 0
        return work()

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(inside).result()


@settings(max_examples=25, deadline=None)
@given(rulesets(), rulesets())
def test_the_kernel_ends_up_with_the_new_ruleset(before: Ruleset, after: Ruleset) -> None:
    def work() -> None:
        NETFILTER.apply(None, before)
        assert differences(before) == []
        NETFILTER.apply(before, after)
        assert differences(after) == []

    isolated(work)


def test_a_refused_ruleset_changes_nothing() -> None:
    bad = replace(SMALL, rules={**SMALL.rules, "input": ((1, "tcp dport @missing accept"),)})

    def work() -> None:
        NETFILTER.apply(None, SMALL)
        generation = NETFILTER.generation()
        with pytest.raises(ApplyError, match="missing"):
            NETFILTER.apply(SMALL, bad)
        assert NETFILTER.generation() == generation
        assert NETFILTER.matches(SMALL)

    isolated(work)


@pytest.mark.parametrize(
    "damage",
    [
        "flush ruleset",
        "delete element inet gatehouse forwards { 203.0.113.1 . tcp . 2 }",
        "add rule inet gatehouse forward accept",
        "insert rule inet gatehouse input accept",
        "add chain inet gatehouse extra",
        "add chain inet gatehouse input { policy accept; }",
    ],
)
def test_changes_by_others_are_seen_and_undone(damage: str) -> None:
    def work() -> None:
        NETFILTER.apply(None, SMALL)
        generation = NETFILTER.generation()
        run(damage)
        assert NETFILTER.generation() != generation
        assert not NETFILTER.matches(SMALL)
        NETFILTER.apply(None, SMALL)
        assert NETFILTER.matches(SMALL)

    isolated(work)


def test_what_packets_put_into_a_dynamic_set_is_no_change_by_others() -> None:
    ruleset = replace(SMALL, sets={**SMALL.sets, "seen": Set("type ipv4_addr; size 9; flags dynamic,timeout;")})

    def work() -> None:
        NETFILTER.apply(None, ruleset)
        run("add element inet gatehouse seen { 203.0.113.1 timeout 1h, 203.0.113.2 timeout 1h }")
        assert NETFILTER.matches(ruleset)
        run("delete set inet gatehouse seen")
        assert not NETFILTER.matches(ruleset)

    isolated(work)


def test_a_difference_that_no_longer_fits_replaces_the_table() -> None:
    elements = {**FORWARDS.elements, "203.0.113.9 . udp . 9": "10.1.1.9 . 9"}
    after = replace(SMALL, sets={**SMALL.sets, "forwards": replace(FORWARDS, elements=elements)})

    def work() -> None:
        NETFILTER.apply(None, SMALL)
        run("flush ruleset")
        NETFILTER.apply(SMALL, after)
        assert NETFILTER.matches(after)

    isolated(work)


def test_counters_survive_deltas_new_declarations_and_replacement() -> None:
    more = replace(TRAFFIC, elements={**TRAFFIC.elements, "203.0.113.3": ""})
    larger = replace(more, spec="type ipv4_addr; size 5000;")

    def work() -> None:
        NETFILTER.apply(None, SMALL)
        run(
            "delete element inet gatehouse traffic { 203.0.113.1 }\n"
            "add element inet gatehouse traffic { 203.0.113.1 counter packets 4 bytes 500 }"
        )
        now = SMALL
        for step in (more, larger):
            after = replace(SMALL, sets={**SMALL.sets, "traffic": step})
            NETFILTER.apply(now, after)
            now = after
            assert NETFILTER.counters(["traffic"])["traffic"]["203.0.113.1"] == (4, 500)
        NETFILTER.apply(None, now)
        assert NETFILTER.counters(["traffic", "none"]) == {
            "traffic": {"203.0.113.1": (4, 500), "203.0.113.2": (0, 0), "203.0.113.3": (0, 0)},
            "none": {},
        }

    isolated(work)


def test_other_tables_are_left_alone() -> None:
    def work() -> str:
        run("add table ip foreign\nadd chain ip foreign mine { type filter hook input priority 0; }")
        NETFILTER.apply(None, SMALL)
        NETFILTER.apply(SMALL, None)
        return run("list ruleset")

    assert [line.split()[:3] for line in isolated(work).splitlines() if line.startswith("table")] == [
        ["table", "ip", "foreign"]
    ]
