"""What guests and hosts of the internet can do through a router, packet by packet."""

from __future__ import annotations

import pytest

from tests.netns.router.traffic import udp_ask, udp_echo
from tests.netns.router.world import (
    FORWARDS,
    INTERNET,
    OTHER_INTERNET,
    SECOND,
    SECOND_FORWARDS,
    SECOND_STATIC,
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

pytestmark = pytest.mark.any_hypervisor

#: what is next to the router outside: the first provider's router and the second's
GATEWAY, PROVIDER = "203.0.113.1", "198.51.100.1"
WEB = forward(FORWARDS, ports(80), "10.1.1.10", ports(8080))


def test_a_forward_alone_opens_nothing(world: World) -> None:
    world.change(nat={"forwards": [WEB]})
    assert not world.internet.connects(FORWARDS, 80)
    world.change(nat={"forwards": [WEB]}, firewall={"ingress": [ingress(FORWARDS, "tcp", ports(80))]})
    assert world.internet.http(f"http://{FORWARDS}/") == (200, world.a1.id)
    assert world.a1.clients()[-1] == "203.0.113.1", "the guest must see the client's own address"
    assert not world.internet.connects(FORWARDS, 8080), "the guest's port is not open on the public address"
    world.change(nat={"forwards": [WEB]})
    assert not world.internet.connects(FORWARDS, 80)


def test_a_rule_opens_to_its_sources_only(world: World) -> None:
    rule = ingress(FORWARDS, "tcp", ports(80), sources=[f"{INTERNET}/32", "192.0.2.64/26"])
    world.change(nat={"forwards": [WEB]}, firewall={"ingress": [rule]})
    assert world.internet.http(f"http://{FORWARDS}/", "--interface", INTERNET)[0] == 200
    assert world.internet.http(f"http://{FORWARDS}/", timeout=1)[0] == 0


def test_overlapping_rules_open_their_union(world: World) -> None:
    rules = [
        ingress(FORWARDS, "tcp", ports(80, 90), sources=[f"{INTERNET}/32"]),
        ingress(FORWARDS, "tcp", ports(85)),
        ingress(FORWARDS, "tcp", ports(84, 100), sources=["192.0.2.0/24"]),
    ]
    forwards = [forward(FORWARDS, ports(port), "10.1.1.10", ports(8080)) for port in (84, 85, 100)]
    world.change(nat={"forwards": forwards}, firewall={"ingress": rules})
    for port, stranger in ((84, 0), (85, 200), (100, 0)):
        assert world.internet.http(f"http://{FORWARDS}:{port}/", "--interface", INTERNET)[0] == 200
        assert world.internet.http(f"http://{FORWARDS}:{port}/", timeout=1)[0] == stranger


def test_port_ranges_of_tcp_and_udp(world: World) -> None:
    udp_echo(world.a1, 5000, 5009, 6000, 6009)
    forwards = [
        forward(FORWARDS, ports(5000, 5009), "10.1.1.10", ports(5000, 5009), "udp"),
        forward(FORWARDS, ports(7000, 7009), "10.1.1.10", ports(6000, 6009), "udp"),
        forward(FORWARDS, ports(8080, 8089), "10.1.1.10", ports(8080, 8089)),
        forward(SPARE, ports(9071, 9080), "10.1.1.11", ports(8071, 8080)),
    ]
    rules = [
        ingress(FORWARDS, "udp", ports(5000, 7009)),
        ingress(FORWARDS, "tcp"),
        ingress(SPARE, "tcp", ports(9000, 9999)),
    ]
    world.change(nat={"forwards": forwards}, firewall={"ingress": rules})
    answers = {port: udp_ask(world.internet, FORWARDS, port) for port in (5000, 5009, 7000, 7009)}
    assert answers == {
        5000: (5000, "203.0.113.1"),
        5009: (5009, "203.0.113.1"),
        7000: (6000, "203.0.113.1"),
        7009: (6009, "203.0.113.1"),
    }
    assert udp_ask(world.internet, FORWARDS, 5010) is None
    assert world.internet.http(f"http://{FORWARDS}:8080/") == (200, world.a1.id)
    assert world.internet.http(f"http://{SPARE}:9080/") == (200, world.a2.id)


def test_static_nat_works_both_ways_and_its_ports_need_rules(world: World) -> None:
    static = {"static": [{"address": STATIC, "guest": "10.1.1.11"}]}
    world.change(nat=static)
    assert not world.internet.connects(STATIC, 8080)
    assert not world.internet.ping(STATIC)
    rules = [ingress(STATIC, "tcp", ports(8080)), ingress(STATIC, "icmp", icmp_type=8, icmp_code=0)]
    world.change(nat=static, firewall={"ingress": rules})
    assert world.internet.http(f"http://{STATIC}:8080/") == (200, world.a2.id)
    assert world.internet.ping(STATIC)
    world.a2.http(f"http://{INTERNET}:8080/")
    assert world.internet.clients()[-1] == STATIC
    world.a1.http(f"http://{INTERNET}:8080/")
    assert world.internet.clients()[-1] == SOURCE, "a guest without static NAT keeps the network's address"


def test_a_public_address_answers_ping_when_a_rule_says_so(world: World) -> None:
    assert not world.internet.ping(SOURCE)
    world.change(firewall={"ingress": [ingress(SOURCE, "icmp", icmp_type=13)]})
    assert not world.internet.ping(SOURCE)
    world.change(firewall={"ingress": [ingress(SOURCE, "icmp")]})
    assert world.internet.ping(SOURCE)
    assert not world.internet.ping(SPARE)


def test_guests_reach_public_addresses_of_their_own_network(world: World) -> None:
    """Hairpin: from the neighbour, and from the guest itself; no firewall rule needed inside."""
    nat = {"forwards": [WEB], "static": [{"address": STATIC, "guest": "10.1.1.11"}]}
    world.change(nat=nat)
    assert world.a2.http(f"http://{FORWARDS}/") == (200, world.a1.id)
    assert world.a1.http(f"http://{FORWARDS}/") == (200, world.a1.id)
    assert world.a1.clients()[-2:] == ["10.1.1.1", "10.1.1.1"]
    assert world.a1.http(f"http://{STATIC}:8080/") == (200, world.a2.id)
    assert world.a2.http(f"http://{STATIC}:8080/") == (200, world.a2.id)


def test_networks_are_isolated(world: World) -> None:
    assert world.a1.ping("10.1.1.1")
    assert not world.a1.ping("10.1.2.10")
    assert not world.b1.ping("10.1.1.10")
    assert not world.a1.connects("10.1.2.10", 8080)
    assert not world.a1.ping("10.1.2.1"), "nor the router's address on the other network"


def test_another_network_is_reached_as_a_stranger_would(world: World) -> None:
    nat = {"forwards": [forward(SPARE, ports(80), "10.1.2.10", ports(8080))]}
    world.change(nat=nat)
    assert not world.a1.connects(SPARE, 80)
    world.change(nat=nat, firewall={"ingress": [ingress(SPARE, "tcp", ports(80))]})
    assert world.a1.http(f"http://{SPARE}/") == (200, world.b1.id)
    assert world.b1.clients()[-1] == SOURCE
    assert not world.a1.connects("10.1.2.10", 8080)
    # egress of network b is denied, so b may not do the same
    nat = {"forwards": [WEB]}
    world.change(nat=nat, firewall={"ingress": [ingress(FORWARDS, "tcp", ports(80))]})
    assert not world.b1.connects(FORWARDS, 80)


def test_egress_is_denied_until_a_rule_allows_it(world: World) -> None:
    udp_echo(world.other, 5001)
    assert not world.b1.ping(PROVIDER)
    assert not world.b1.connects(PROVIDER, 8080)

    def reach(*rules: Raw) -> tuple[bool, bool, bool]:
        world.change(firewall={"egress": list(rules)})
        return (
            world.b1.ping(PROVIDER),
            world.b1.connects(PROVIDER, 8080, timeout=0.5),
            udp_ask(world.b1, PROVIDER, 5001) == (5001, SECOND),
        )

    assert reach(egress(protocol="all")) == (True, True, True)
    assert reach(egress(protocol="icmp", icmp_type=8)) == (True, False, False)
    assert reach(egress(protocol="icmp", icmp_type=13)) == (False, False, False)
    assert reach(egress(protocol="tcp", ports=ports(8000, 9000))) == (False, True, False)
    assert reach(egress(protocol="tcp", ports=ports(8000, 8079))) == (False, False, False)
    assert reach(egress(protocol="udp")) == (False, False, True)
    assert reach(egress(protocol="all", sources=["10.1.2.8/29"])) == (True, True, True)
    assert reach(egress(protocol="all", sources=["10.1.2.64/26"])) == (False, False, False)
    assert reach(egress(protocol="all", destinations=["198.51.100.0/28"])) == (True, True, True)
    assert reach(egress(protocol="all", destinations=["192.0.2.0/25"])) == (False, False, False)
    assert reach(egress(protocol="tcp", ports=ports(8080)), egress(protocol="icmp")) == (True, True, False)


def test_where_egress_is_allowed_a_rule_denies(world: World) -> None:
    rule = {
        "id": "no-web",
        "interface": "eth0",
        "protocol": "tcp",
        "ports": ports(8080),
        "destinations": [f"{INTERNET}/32"],
    }
    world.change(firewall={"egress": [rule]})
    assert not world.a1.connects(INTERNET, 8080)
    assert world.a1.connects("203.0.113.1", 8080)
    assert world.a1.ping(INTERNET)


def test_connections_keep_to_their_public_interface(world: World) -> None:
    """The default route is by the first; what came in by the second, or belongs to an address of it, leaves by it."""
    world.change(
        nat={
            "forwards": [forward(SECOND_FORWARDS, ports(80), "10.1.1.10", ports(8080))],
            "static": [{"address": SECOND_STATIC, "guest": "10.1.1.11"}],
        },
        firewall={
            "ingress": [
                ingress(SECOND_FORWARDS, "tcp", ports(80)),
                ingress(SECOND_STATIC, "tcp"),
                ingress(SECOND, "icmp"),
            ]
        },
    )
    far = ("--interface", OTHER_INTERNET)
    assert world.other.http(f"http://{SECOND_FORWARDS}/", *far) == (200, world.a1.id)
    assert world.other.http(f"http://{SECOND_STATIC}:8080/", *far) == (200, world.a2.id)
    assert world.other.ok(["busybox", "ping", "-c1", "-W1", "-I", OTHER_INTERNET, SECOND])
    assert world.a2.http(f"http://{OTHER_INTERNET}:8080/") == (200, world.other.id)
    assert world.other.clients()[-1] == SECOND_STATIC
    assert world.a1.http(f"http://{INTERNET}:8080/") == (200, world.internet.id)


def test_the_agent_and_the_control_network_are_out_of_reach(world: World) -> None:
    everything = [ingress(SOURCE, "tcp"), ingress(SOURCE, "udp")]
    world.change(firewall={"ingress": everything})
    control = world.router.address
    for machine in (world.internet, world.a1):
        machine.run(
            [
                "ip",
                "route",
                "replace",
                "169.254.0.0/16",
                "via",
                "203.0.113.2" if machine is world.internet else "10.1.1.1",
            ]
        )
        assert not machine.connects(control, 9443)
        assert not machine.connects("169.254.0.1", 9443)
        assert not machine.ping(control)
        machine.run(["ip", "route", "del", "169.254.0.0/16"])
    assert not world.internet.connects(SOURCE, 9443)
    assert not world.a1.connects("10.1.1.1", 9443)


def test_nothing_enters_a_guest_network_without_translation(world: World) -> None:
    world.change(firewall={"ingress": [ingress(SOURCE, "tcp"), ingress(SOURCE, "icmp")]})
    world.internet.run(["ip", "route", "replace", "10.1.0.0/16", "via", SOURCE])
    assert not world.internet.connects("10.1.1.10", 8080)
    assert not world.internet.ping("10.1.1.10")
    assert not world.internet.ping("10.1.1.1")
    world.internet.run(["ip", "route", "del", "10.1.0.0/16"])


def test_spoofed_sources_go_nowhere(world: World) -> None:
    udp_echo(world.internet, 5353)
    world.a1.run(["ip", "address", "add", "10.1.2.77/32", "dev", "lo"])
    world.a1.run(["ip", "address", "add", "10.1.1.77/32", "dev", "eth0"])
    assert udp_ask(world.a1, GATEWAY, 5353, source="10.1.1.77") == (5353, SOURCE)
    capture = world.internet.popen(["timeout", "3", "/usr/bin/python3", "-c", _SNIFF])
    assert capture.stdout is not None
    assert capture.stdout.readline().strip() == "ready"
    assert udp_ask(world.a1, GATEWAY, 5353, source="10.1.2.77") is None
    assert udp_ask(world.a1, GATEWAY, 5353, source="10.1.1.10") == (5353, SOURCE)
    assert capture.stdout.readline().strip() == SOURCE, "the first packet that arrives is the honest one"
    capture.kill()
    capture.communicate()
    world.a1.run(["ip", "address", "del", "10.1.2.77/32", "dev", "lo"])
    world.a1.run(["ip", "address", "del", "10.1.1.77/32", "dev", "eth0"])


_SNIFF = """
import socket
packets = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x0800))
print("ready", flush=True)
while True:
    data, (_, _, kind, _, _) = packets.recvfrom(2048)
    if kind == 0 and data[9] == 17 and data[22:24] == (5353).to_bytes(2, "big"):
        print(socket.inet_ntoa(data[12:16]), flush=True)
"""


def test_ipv6_is_not_spoken(world: World) -> None:
    scope = "fe80::1"
    world.a1.run(["ip", "-6", "address", "replace", "fe80::10/64", "dev", "eth0", "nodad"])
    listed = world.router.run(["ip", "-6", "address", "show", "dev", "eth0"]).stdout
    assert listed.strip() == ""
    assert not world.a1.ok(["ping", "-6", "-c1", "-W1", f"{scope}%eth0"])
