"""What a change does to connections that are open, what drift does to the router, and what is counted."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from appliance.schema.status import Repair
from tests.netns.lab import Machine
from tests.netns.router.traffic import Conversation, talk, tcp_echo
from tests.netns.router.world import (
    FORWARDS,
    SOURCE,
    SPARE,
    STATIC,
    Raw,
    World,
    egress,
    forward,
    ingress,
    ports,
)
from tests.wait import wait_for

pytestmark = pytest.mark.any_hypervisor

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
        (["ip", "link", "set", "eth2", "group", "0"], "interfaces"),
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
    newest = max((repair.number for repair in world.router.status().repairs), default=0)
    world.router.run(damage)

    def first() -> Repair | None:
        return next((repair for repair in world.router.status().repairs if repair.number > newest), None)

    repair = wait_for(first, 5, "the repair")
    assert repair is not None
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
        found = {counter.id: counter for counter in world.traffic().counters}
        return {
            f"{name} {direction}": count
            for name, counter in (
                ("forward", found["ip-forward"]),
                ("source", found[SOURCE]),
                ("guest", found["nic-a1"]),
            )
            for direction, count in (("in", counter.received), ("out", counter.sent))
        }

    world.state["accounting"] = {"addresses": [{"id": "ip-forward", "address": FORWARDS}]}
    world.change()
    before = counts()
    world.a1.run(["mkdir", "-p", "/run/www"])
    world.a1.write("/run/www/big", "x" * 300_000)
    world.a1.popen(["/usr/bin/python3", "-m", "http.server", "-d", "/run/www", "8081"])
    wait_for(lambda: world.a1.connects("127.0.0.1", 8081), 5, "the file server")
    big = forward(FORWARDS, ports(81), "10.1.1.10", ports(8081))
    world.change(nat={"forwards": [big]}, firewall={"ingress": [ingress(FORWARDS, "tcp", ports(81))]})
    assert len(world.internet.http(f"http://{FORWARDS}:81/big")[1]) == 300_000

    grown = {key: value - before[key] for key, value in counts().items()}
    assert 300_000 <= grown["forward out"] < 330_000
    assert grown["forward in"] < 30_000
    # what the guest had to say besides, e.g. the end of a connection of the test before
    assert 0 <= grown["guest out"] - grown["forward out"] < 1000
    assert 0 <= grown["guest in"] - grown["forward in"] < 1000
    assert grown["source in"] == grown["source out"] == 0
    line = f'gatehouse_traffic_bytes_total{{kind="public",direction="out",address="{FORWARDS}",id="ip-forward"}} '
    assert line in world.router.metrics()

    # what was told is on disk
    epoch, total = world.traffic().epoch, counts()["forward out"]
    world.router.stop(force=True)
    world.router.start()
    world.router.wait_healthy()
    assert world.traffic().epoch == epoch
    assert total <= counts()["forward out"] < total + 10_000
    # and all rules are back by themselves
    assert len(world.internet.http(f"http://{FORWARDS}:81/big")[1]) == 300_000


def test_no_byte_is_lost_or_counted_twice(world: World) -> None:
    """Rules and guests come and go, the agent is killed: the count of a download that goes on stays exact."""
    world.a1.run(["mkdir", "-p", "/run/www"])
    world.a1.write("/run/www/big", "x" * 3_000_000)
    world.a1.popen(["/usr/bin/python3", "-m", "http.server", "-d", "/run/www", "8082"])
    wait_for(lambda: world.a1.connects("127.0.0.1", 8082), 5, "the file server")
    big = forward(FORWARDS, ports(82), "10.1.1.10", ports(8082))
    opened = ingress(FORWARDS, "tcp", ports(82))
    newcomer = {"id": "nic-new", "interface": "eth0", "mac": "02:00:00:aa:00:01", "address": "10.1.1.77", "name": "new"}

    def let_in(*more: Raw, hosts: tuple[Raw, ...] = ()) -> None:
        known = world.state["dhcp"]["hosts"]
        world.change(nat={"forwards": [big]}, firewall={"ingress": [opened, *more]}, dhcp={"hosts": [*known, *hosts]})

    def sent() -> tuple[int, int]:
        """Of the guest, as the router says and as the guest's own interface does."""
        [guest] = [counter for counter in world.traffic().counters if counter.id == "nic-a1"]
        return guest.sent, int(world.a1.read("/sys/class/net/eth0/statistics/tx_bytes"))

    let_in()
    told, real = sent()
    argv = ["curl", "-s", "-m", "20", "--limit-rate", "1500k", "-o", "/dev/null", f"http://{FORWARDS}:82/big"]
    for disturb in (
        lambda: let_in(ingress(FORWARDS, "tcp", ports(83))),
        lambda: let_in(hosts=(newcomer,)),
        let_in,
        world.router.kill_agent,
    ):
        download = world.internet.popen(argv)
        disturb()
        assert download.wait(30) == 0
    wait_for(world.traffic, 10, "the agent to know its state")
    now_told, now_real = sent()
    grown, grown_real = now_told - told, now_real - real
    assert grown_real > 12_000_000
    # the interface counts Ethernet headers (14 bytes a packet), and ARP, which the router does not forward
    assert 0.98 * grown_real < grown < grown_real
