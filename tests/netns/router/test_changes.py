"""What a change does to connections that are open, what drift does to the router, and what is counted."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.netns.lab import Machine
from tests.netns.router.traffic import Conversation, talk, tcp_echo
from tests.netns.router.world import (
    FORWARDS,
    SOURCE,
    SPARE,
    STATIC,
    World,
    egress,
    forward,
    ingress,
    ports,
)
from tests.wait import wait_for

GATEWAY, PROVIDER = "203.0.113.1", "198.51.100.1"
ECHO = forward(FORWARDS, ports(7), "10.1.1.10", ports(7))
OPEN = ingress(FORWARDS, "tcp", ports(7))


@pytest.fixture(scope="module")
def echoing(shared_world: World) -> World:
    for machine in (shared_world.a1, shared_world.a2, shared_world.internet, shared_world.other):
        tcp_echo(machine, 7)
    return shared_world


@contextmanager
def conversation(machine: Machine, address: str) -> Iterator[Conversation]:
    opened = talk(machine, address, 7)
    try:
        assert opened.alive()
        yield opened
    finally:
        opened.close()


def test_changes_leave_other_connections_alone(world: World, echoing: World) -> None:
    world.change(nat={"forwards": [ECHO]}, firewall={"ingress": [OPEN]})
    with conversation(world.internet, FORWARDS) as inward, conversation(world.a2, GATEWAY) as outward:
        more = forward(SPARE, ports(7), "10.1.1.11", ports(7))
        world.change(nat={"forwards": [ECHO, more]}, firewall={"ingress": [OPEN, ingress(SPARE, "tcp", ports(7))]})
        with conversation(world.internet, SPARE) as other:
            world.change(nat={"forwards": [ECHO]}, firewall={"ingress": [OPEN, ingress(SPARE, "tcp", ports(7))]})
            assert not other.alive()
        world.change(
            nat={"forwards": [ECHO], "static": [{"address": STATIC, "guest": "10.1.1.11"}]},
            firewall={"ingress": [OPEN], "egress": [egress("eth0", protocol="tcp", ports=ports(25))]},
        )
        assert inward.alive()
        assert outward.alive()


def test_a_removed_firewall_rule_cuts_what_it_let_in(world: World, echoing: World) -> None:
    wide = ingress(FORWARDS, "tcp", sources=["203.0.113.0/24"])
    world.change(nat={"forwards": [ECHO]}, firewall={"ingress": [OPEN, wide]})
    with conversation(world.internet, FORWARDS) as inward:
        world.change(nat={"forwards": [ECHO]}, firewall={"ingress": [wide]})
        assert inward.alive(), "another rule still lets it in"
        world.change(nat={"forwards": [ECHO]})
        assert not inward.alive()


def test_a_forward_pointed_elsewhere_takes_new_connections_there(world: World, echoing: World) -> None:
    world.change(nat={"forwards": [ECHO]}, firewall={"ingress": [OPEN]})
    with conversation(world.internet, FORWARDS) as inward:
        moved = {**ECHO, "guest": "10.1.1.11"}
        world.change(nat={"forwards": [moved]}, firewall={"ingress": [OPEN]})
        assert not inward.alive()
    with conversation(world.internet, FORWARDS) as again:
        assert again.alive()


def test_a_removed_egress_rule_cuts_what_it_let_out(world: World, echoing: World) -> None:
    rules = [egress(protocol="tcp", ports=ports(7), destinations=["198.51.100.0/24"]), egress(protocol="icmp")]
    world.change(firewall={"egress": rules})
    with conversation(world.b1, PROVIDER) as outward, conversation(world.a1, GATEWAY) as other:
        world.change(firewall={"egress": rules[1:]})
        assert not outward.alive()
        assert other.alive()


def test_source_nat_address_that_changes_cuts_its_connections(world: World, echoing: World) -> None:
    second = {"interface": "eth4", "address": "198.51.100.2"}
    world.change(nat={"source": [{"interface": "eth0", "address": SOURCE}, second]})
    with conversation(world.a1, GATEWAY) as outward:
        world.change(nat={"source": [{"interface": "eth0", "address": SPARE}, second]})
        assert not outward.alive()
    with conversation(world.a1, GATEWAY):
        pass


@pytest.mark.parametrize(
    ("damage", "service"),
    [
        (["nft", "flush", "ruleset"], "netfilter"),
        (["nft", "add", "rule", "inet", "gatehouse", "forward", "accept"], "netfilter"),
        (["ip", "address", "del", f"{FORWARDS}/24", "dev", "eth2"], "interfaces"),
        (["ip", "address", "flush", "dev", "eth0"], "interfaces"),
        (["ip", "link", "set", "eth2", "down"], "interfaces"),
        (["ip", "route", "del", "default"], "interfaces"),
        (["ip", "rule", "flush"], "interfaces"),
        (["sysctl", "-w", "net.ipv4.ip_forward=0"], "interfaces"),
    ],
    ids=lambda value: "-".join(value[:4]) if isinstance(value, list) else value,
)
def test_damage_is_repaired(world: World, damage: list[str], service: str) -> None:
    web = forward(FORWARDS, ports(80), "10.1.1.10", ports(8080))
    world.change(nat={"forwards": [web]}, firewall={"ingress": [ingress(FORWARDS, "tcp", ports(80))]})
    # repairs of one service come at growing distances; a new agent begins with the shortest
    world.router.kill_agent()
    world.router.wait_agent()
    before = world.router.status().repairs
    world.router.run(damage)
    wait_for(lambda: len(world.router.status().repairs) > len(before), 5, "the repair")
    repair = world.router.status().repairs[-1]
    assert (repair.service, repair.error) == (service, "")
    assert world.internet.http(f"http://{FORWARDS}/") == (200, world.a1.id)
    assert world.a1.http(f"http://{GATEWAY}:8080/") == (200, world.internet.id)


def test_addresses_come_and_go_without_disturbing_the_rest(world: World, echoing: World) -> None:
    state = copy.deepcopy(world.state)
    public = state["interfaces"]["interfaces"][2]
    assert public["name"] == "eth2"
    world.change(nat={"forwards": [ECHO]}, firewall={"ingress": [OPEN]})
    with conversation(world.internet, FORWARDS) as inward, conversation(world.a1, GATEWAY) as outward:
        state["nat"] = {**state["nat"], "forwards": [ECHO]}
        state["firewall"] = {**state["firewall"], "ingress": [OPEN]}
        # a new one, and the interface's primary address gone: the network's source NAT moves to another interface
        public["addresses"] = [f"{address}/24" for address in (FORWARDS, STATIC, SPARE, "203.0.113.9")]
        state["nat"]["source"] = [
            {"interface": "eth0", "address": FORWARDS},
            {"interface": "eth4", "address": "198.51.100.2"},
        ]
        world.router.push(state)
        assert inward.alive()
        assert not outward.alive(), "its source NAT address is gone"
        assert not world.internet.ok(["arping", "-c1", "-w1", SOURCE])


def test_what_passes_is_counted(world: World) -> None:
    def counts() -> dict[str, int]:
        report = world.router.status().reports["accounting"]
        counted = (("forward", "public", FORWARDS), ("source", "public", SOURCE), ("guest", "guest", "10.1.1.10"))
        return {
            f"{name} {direction}": report[kind][address][direction]
            for name, kind, address in counted
            for direction in ("in", "out")
        }

    wait_for(lambda: "accounting" in world.router.status().reports, 5, "the first reading")
    before = counts()
    world.a1.run(["mkdir", "-p", "/run/www"])
    world.a1.write("/run/www/big", "x" * 300_000)
    world.a1.popen(["/usr/bin/python3", "-m", "http.server", "-d", "/run/www", "8081"])
    wait_for(lambda: world.a1.connects("127.0.0.1", 8081), 5, "the file server")
    big = forward(FORWARDS, ports(81), "10.1.1.10", ports(8081))
    world.change(nat={"forwards": [big]}, firewall={"ingress": [ingress(FORWARDS, "tcp", ports(81))]})
    assert len(world.internet.http(f"http://{FORWARDS}:81/big")[1]) == 300_000

    def counted() -> dict[str, int] | None:
        grown = {key: value - before[key] for key, value in counts().items()}
        return grown if grown["forward out"] >= 300_000 else None

    grown = wait_for(counted, 6, "the counters to be read")
    assert grown is not None
    assert grown["forward out"] < 330_000
    assert grown["forward in"] < 30_000
    # what the guest had to say besides, e.g. the end of a connection of the test before
    assert 0 <= grown["guest out"] - grown["forward out"] < 1000
    assert 0 <= grown["guest in"] - grown["forward in"] < 1000
    assert grown["source in"] == grown["source out"] == 0
    line = f'gatehouse_traffic_bytes_total{{kind="public",direction="out",address="{FORWARDS}"}} '
    assert line in world.router.metrics()

    total = counts()["forward out"]
    wait_for(lambda: _saved(world) >= total, 8, "the totals to be saved")
    world.router.stop(force=True)
    world.router.start()
    wait_for(lambda: counts()["forward out"] >= total, 10, "the totals after a power cut")
    assert counts()["forward out"] < total + 10_000
    # and all rules are back by themselves
    assert len(world.internet.http(f"http://{FORWARDS}:81/big")[1]) == 300_000


def _saved(world: World) -> int:
    kept = json.loads(world.router.read("/var/lib/gatehouse/accounting.json"))
    return int(kept["sets"]["account_public_out"][FORWARDS]["total"][1])
