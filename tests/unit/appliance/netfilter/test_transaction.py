"""Transactions, run on a table that is as strict as the kernel's."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given

from appliance.netfilter.base import guard
from appliance.netfilter.ruleset import Ruleset, Set
from appliance.netfilter.transaction import delta, redeclared_counted, replacement
from tests.unit.appliance.netfilter.rulesets import rulesets
from tests.unit.appliance.netfilter.table import Table

FORWARDS = Set("type inet_service : inet_service;", {"80": "8080", "81": "8081"}, is_map=True)
SMALL = Ruleset(
    chains={"nat": "type nat hook prerouting priority dstnat;", "other": ""},
    rules={"nat": ((1, "redirect to :tcp dport map @forwards"),), "other": ((1, "accept"),)},
    sets={"forwards": FORWARDS},
)


@given(rulesets())
def test_a_replacement_gives_the_ruleset(after: Ruleset) -> None:
    table = Table(chains={"left": "over"}, rules={"left": []})
    table.run(replacement(after))
    assert table.holds(after)


@given(rulesets(), rulesets())
def test_the_difference_turns_old_into_new(before: Ruleset, after: Ruleset) -> None:
    table = Table()
    table.run(replacement(before))
    table.run(delta(before, after))
    assert table.holds(after)


@given(rulesets())
def test_nothing_changed_is_no_transaction(ruleset: Ruleset) -> None:
    assert delta(ruleset, replace(ruleset)) == ""


def test_one_changed_element_is_all_that_is_sent() -> None:
    elements = {"80": "8080", "82": "8082"}
    after = replace(SMALL, sets={"forwards": replace(FORWARDS, elements=elements)})
    assert delta(SMALL, after).splitlines() == [
        "delete element inet gatehouse forwards { 81 }",
        "add element inet gatehouse forwards { 82 : 8082 }",
    ]


def test_a_changed_rule_refills_its_chain_only() -> None:
    after = replace(SMALL, rules={**SMALL.rules, "other": ((1, "accept"), (2, "drop"))})
    assert delta(SMALL, after).splitlines() == [
        "flush chain inet gatehouse other",
        "add rule inet gatehouse other accept",
        "add rule inet gatehouse other drop",
    ]


def test_removing_everything_leaves_no_table() -> None:
    assert replacement(None).splitlines() == ["add table inet gatehouse", "delete table inet gatehouse"]


def test_counters_go_on_where_they_were() -> None:
    counted = Set("type ipv4_addr;", {"192.0.2.1": "", "192.0.2.2": ""}, counted=True)
    before = Ruleset(sets={"traffic": counted})
    after = Ruleset(sets={"traffic": replace(counted, spec="type ipv4_addr; size 9;")})
    assert redeclared_counted(before, after) == ["traffic"]
    element = "add element inet gatehouse traffic { 192.0.2.1 counter packets 3 bytes 400, 192.0.2.2 }"
    counters = {"traffic": {"192.0.2.1": (3, 400)}}
    assert element in delta(before, after, counters).splitlines()
    assert element in replacement(after, counters).splitlines()


def test_the_guard_opens_the_agent_on_the_control_interface_only() -> None:
    accepts = [rule for _, rule in guard("eth1", 9443).rules["input"] if rule.endswith("accept")]
    assert accepts == [
        'iif "lo" accept',
        'iifname "eth1" tcp dport 9443 accept',
        'iifname "eth1" icmp type echo-request accept',
    ]
    forwards = guard("eth1", 9443).rules["forward"]
    assert [rule for _, rule in forwards if rule.endswith(" accept")] == ["ct state established,related accept"]
