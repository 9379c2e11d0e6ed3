"""haproxy's answers, and the commands that change members."""

from __future__ import annotations

from router.services.loadbalancer.runtime import Server, changes, parse_servers, parse_statistics

# haproxy 2.6
STATES = """1
# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight srv_iweight
2 r1 1 10.1.1.10:80 10.1.1.10 2 0 1 1 0 8 2 0 6 0 0 0 - 80 - 0 0 - - 0
2 r1 2 10.1.1.11:80 10.1.1.11 0 1 1 1 0 8 2 0 6 0 0 0 - 80 - 0 0 - - 0

"""

STATISTICS = """# pxname,svname,stot,bin,bout,status,type,
r1,FRONTEND,9,1,2,OPEN,0,
r1,10.1.1.10:80,7,100,200,UP 1/2,2,
r1,10.1.1.11:80,0,0,0,DOWN,2,

"""


def test_servers_and_who_is_in_maintenance() -> None:
    assert parse_servers(STATES) == {"r1": {"10.1.1.10:80": False, "10.1.1.11:80": True}}


def test_statistics() -> None:
    assert parse_statistics(STATISTICS) == (
        {"r1": "OPEN"},
        [Server("r1", "10.1.1.10:80", "UP", 7, 100, 200), Server("r1", "10.1.1.11:80", "DOWN", 0, 0, 0)],
    )


def test_nothing_to_change() -> None:
    assert list(changes("r1", {"a:1": False}, ["a:1"], "check", cookies=True)) == []


def test_a_new_member_and_one_that_comes_back() -> None:
    assert list(changes("r1", {"a:1": True}, ["a:1", "b:1"], "check", cookies=True)) == [
        "add server r1/b:1 b:1 check",
        "enable health r1/b:1",
        "enable dynamic-cookie backend r1",
        "set server r1/a:1 state ready",
        "set server r1/b:1 state ready",
    ]


def test_a_member_that_goes() -> None:
    assert list(changes("r1", {"a:1": False}, [], "check", cookies=False)) == [
        "set server r1/a:1 state maint",
        "del server r1/a:1",
    ]
