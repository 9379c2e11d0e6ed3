"""The name server, asked by dig from outside."""

from __future__ import annotations

import dns.message
import pytest

from tests.netns.consoleproxy.world import DOMAIN, PROXY, World

DNS = {"domain": DOMAIN, "ranges": [{"first": "203.0.113.10", "last": "203.0.113.99"}]}


def dig(world: World, *words: str) -> str:
    done = world.person.run(["dig", "+tries=2", "+time=2", f"@{PROXY}", *words], check=False)
    return done.stdout.strip()


@pytest.fixture(scope="module")
def served(world: World) -> World:
    world.state["dns"] = DNS
    world.push()
    return world


@pytest.mark.any_hypervisor
@pytest.mark.parametrize("transport", ["+notcp", "+tcp"])
def test_names_of_addresses(served: World, transport: str) -> None:
    assert dig(served, transport, "+short", f"203-0-113-42.{DOMAIN}") == "203.0.113.42"
    assert "status: NXDOMAIN" in dig(served, transport, f"192-0-2-1.{DOMAIN}")
    assert "status: REFUSED" in dig(served, transport, "example.org")


def test_delegation(served: World) -> None:
    assert dig(served, "+short", DOMAIN, "NS") == f"203-0-113-10.{DOMAIN}."
    assert dig(served, "+short", f"203-0-113-10.{DOMAIN}") == PROXY
    assert f"hostmaster.{DOMAIN}." in dig(served, "+short", DOMAIN, "SOA")


@pytest.mark.any_hypervisor
def test_a_change_of_the_ranges(served: World) -> None:
    served.state["dns"] = {**DNS, "ranges": [*DNS["ranges"], {"first": "192.0.2.1", "last": "192.0.2.1"}]}
    served.push()
    assert dig(served, "+short", f"192-0-2-1.{DOMAIN}") == "192.0.2.1"


def test_a_flood_is_answered_with_less_than_it_takes(served: World) -> None:
    """Whoever's address is forged gets no more than what its forger spends; by TCP there are answers all the while."""
    program = """
import socket, sys
query = bytes.fromhex(sys.argv[2])
asking = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sent = received = 0
for _ in range(5000):
    asking.setblocking(True)
    sent += asking.sendto(query, (sys.argv[1], 53))
    asking.setblocking(False)
    try:
        while True: received += len(asking.recv(4096))
    except BlockingIOError: pass
asking.settimeout(1)
try:
    while True: received += len(asking.recv(4096))
except TimeoutError: print(sent, received)
"""
    query = dns.message.make_query(f"203-0-113-42.{DOMAIN}", "ANY", use_edns=0, payload=4096).to_wire()
    done = served.person.run(["/usr/bin/python3", "-c", program, PROXY, query.hex()])
    sent, received = map(int, done.stdout.split())
    assert 0 < received < sent
    assert dig(served, "+tcp", "+short", f"203-0-113-42.{DOMAIN}") == "203.0.113.42"


def test_nothing_is_served_without_the_section(served: World) -> None:
    served.state.pop("dns")
    served.push()
    assert dig(served, "+short", "+tries=1", "+time=1", f"203-0-113-42.{DOMAIN}").startswith(";;")
