"""Which packets of balanced connections pass: the kernel does not track them, and nothing else gets in by that."""

from __future__ import annotations

import subprocess

import pytest

from appliance.services.interfaces.plan import OWN_PORTS
from controlplane.hypervisors.base import Nic
from tests.netns.lab import Lab
from tests.netns.router.balancing import OTHER, PUBLIC, Raw, Site, build, member, rule
from tests.netns.router.traffic import PYTHON, talk
from tests.netns.router.world import forward, ports
from tests.wait import wait_for

pytestmark = pytest.mark.any_hypervisor

ROUTER = "10.1.1.1"
#: flags of TCP in hexadecimal
FIRST, ACKNOWLEDGEMENT = "02", "10"
ECHO = rule(member(0, 7), id="echo", port=7)

# listens on one of the ports that the router's own connections have, and says which
_LISTEN = """
import socket
server = socket.create_server(("", 0))
print(server.getsockname()[1], flush=True)
server.accept()
print("somebody is in")
"""

# what answers a packet in the middle of no connection: R for a reset, nothing for silence
_STRAY = """
import socket, struct, sys
source, target, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP)
raw.bind((source, 0))
raw.settimeout(1)
def total(data):
    found = sum(struct.unpack(f"!{len(data) // 2}H", data))
    return ~((found & 0xFFFF) + (found >> 16)) & 0xFFFF
ends = socket.inet_aton(source) + socket.inet_aton(target) + struct.pack("!BBH", 0, 6, 20)
def header(checksum):
    return struct.pack("!HHIIBBHHH", 8080, port, 1, 1, 5 << 4, int(sys.argv[4], 16), 1000, checksum, 0)
raw.sendto(header(total(ends + header(0))), (target, 0))
try:
    while True:
        packet, (sender, _) = raw.recvfrom(100)
        # the load balancer ends its health checks with a reset, too
        if sender == target and struct.unpack_from("!HH", packet, 20) == (port, 8080) and packet[33] & 4:
            print("R")
            break
except TimeoutError:
    pass
"""


@pytest.fixture(scope="module")
def site(lab: Lab) -> Site:
    return build(lab)


def _tracked(site: Site) -> int:
    return int(site.router.read("/proc/sys/net/netfilter/nf_conntrack_count"))


def test_connections_are_not_tracked(site: Site) -> None:
    site.balance(ECHO, opened=(7,))
    before = _tracked(site)
    connections = [talk(site.client, PUBLIC, 7) for _ in range(20)]
    try:
        assert all(connection.alive() for connection in connections)
        assert _tracked(site) < before + 20
    finally:
        for connection in connections:
            connection.close()


def test_the_firewall_counts_for_every_packet(site: Site) -> None:
    site.balance(ECHO, opened=(7,))
    connection = talk(site.client, PUBLIC, 7)
    try:
        assert connection.alive()
        site.balance(ECHO, opened=())
        assert not connection.alive()
        assert not site.client.connects(PUBLIC, 7)
    finally:
        connection.close()


def test_sources_of_the_firewall(site: Site) -> None:
    site.balance(rule(member(0)), sources=["192.0.2.0/24", "203.0.113.9/32"])
    assert site.stranger.http(f"http://{PUBLIC}/")[0] == 200
    assert site.client.http(f"http://{PUBLIC}/", "--interface", "192.0.2.1")[0] == 200
    assert site.client.http(f"http://{PUBLIC}/", timeout=1)[0] == 0


def test_nobody_outside_is_a_guest(site: Site) -> None:
    site.balance(rule(member(0)))
    site.client.run(["ip", "address", "add", "10.1.1.77/32", "dev", "eth0"])
    try:
        assert site.client.http(f"http://{PUBLIC}/", "--interface", "10.1.1.77", timeout=1)[0] == 0
        assert "10.1.1.77" not in site.router.run(["ip", "neighbour"]).stdout, "the router answered"
    finally:
        site.client.run(["ip", "address", "del", "10.1.1.77/32", "dev", "eth0"])


def test_guests_are_not_let_into_the_router(site: Site) -> None:
    site.balance(rule(member(0)))
    listener = site.router.popen([PYTHON, "-c", _LISTEN])
    try:
        assert listener.stdout is not None
        port = int(listener.stdout.readline())
        assert OWN_PORTS[0] <= port <= OWN_PORTS[1]
        assert not site.guests[0].connects(ROUTER, port)
        assert _stray(site, port, ACKNOWLEDGEMENT) == "R"
        assert _stray(site, port, FIRST) == ""
        # other ports of the router hear nothing of a packet in the middle of no connection
        assert _stray(site, 20000, ACKNOWLEDGEMENT) == ""
        assert listener.poll() is None
    finally:
        site.router.kill("getsockname")
        listener.communicate(timeout=10)


def _stray(site: Site, port: int, flags: str) -> str:
    return site.guests[0].run([PYTHON, "-c", _STRAY, "10.1.1.10", ROUTER, str(port), flags]).stdout.strip()


@pytest.mark.parametrize("port", [80, 40000])
def test_a_member_s_port_is_reached_by_a_forward_as_well(site: Site, port: int) -> None:
    """From the network itself the router stands in for the guest that asks, whatever port that has."""
    nat = site.state["nat"] | {"forwards": [forward(OTHER, ports(8000), "10.1.1.11", ports(8080))]}
    site.balance(rule(member(1)), nat=nat)
    asked = site.guests[0].http(f"http://{OTHER}:8000/", "--local-port", str(port))
    assert asked == (200, "guest1")
    assert site.guests[1].clients()[-1] == ROUTER


def test_guests_may_use_a_balanced_port_as_their_own(site: Site) -> None:
    """What comes back for them is not taken for a client of the load balancer."""
    site.client.popen([PYTHON, "-m", "http.server", "8000"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for(lambda: site.client.connects("127.0.0.1", 8000), 5, "the server")
    firewall = {"egress_defaults": [{"interface": "eth0", "allow": True}]}
    site.balance(rule(member(0)), rule(member(0), id="high", port=9000), firewall=firewall)
    for port in (80, 9000, 9001):
        assert site.guests[0].http("http://203.0.113.1:8000/", "--local-port", str(port))[0] == 200, port


def test_traffic_is_counted(site: Site) -> None:
    size = 3_000_000
    state: Raw = {
        "accounting": {"addresses": [{"id": "ip-1", "address": PUBLIC}]},
        "dhcp": {
            "networks": [{"interface": "eth0", "subnet": "10.1.1.0/24", "gateway": ROUTER, "domain": "a.example"}],
            "hosts": [
                {"id": "nic-0", "interface": "eth0", "mac": site.guests[0].mac, "address": "10.1.1.10", "name": "g"}
            ],
        },
    }
    site.guests[0].run(["sh", "-c", f"mkdir -p /run/big && head -c {size} /dev/zero >/run/big/file"])
    server = [PYTHON, "-m", "http.server", "8001", "-d", "/run/big"]
    site.guests[0].popen(server, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for(lambda: site.guests[0].connects("127.0.0.1", 8001), 5, "the server")
    site.balance(rule(member(0, 8001)), **state)

    def counted() -> dict[str, tuple[int, int]]:
        traffic = site.router.agent.traffic()
        assert traffic is not None
        return {one.id: (one.received, one.sent) for one in traffic.counters}

    before = counted()
    assert site.client.http(f"http://{PUBLIC}/file", "-o", "/dev/null")[0] == 200
    after = counted()
    public, guest = ([now - then for now, then in zip(after[id], before[id], strict=True)] for id in ("ip-1", "nic-0"))
    # headers of IP and TCP are counted too: 52 of 1500 bytes, and those of acknowledgements the other way
    assert size < public[1] < size * 1.06
    assert size < guest[1] < size * 1.06
    assert 200 < public[0] < size * 0.06
    assert 200 < guest[0] < size * 0.06


@pytest.mark.namespaces_only
def test_a_smaller_way_to_a_client_is_found(site: Site, lab: Lab) -> None:
    """A router on the internet that tells by ICMP that a packet is too big for what follows (RFC 1191)."""
    beyond = lab.segment("public")
    lab.hypervisor.attach_nic(site.client.id, Nic(lab.mac(), beyond, trusted=True))
    nic = "eth1"
    far = lab.host("far", beyond, ["198.51.100.9/24"], gateway="198.51.100.1")
    site.client.configure(["198.51.100.1/24"], interface=nic)
    site.client.run(["ip", "link", "set", nic, "mtu", "1280"])
    site.client.run(["sh", "-c", "echo 1 >/proc/sys/net/ipv4/ip_forward"])
    site.guests[0].run(["sh", "-c", "mkdir -p /run/big && head -c 300000 /dev/zero >/run/big/file"])
    server = [PYTHON, "-m", "http.server", "8002", "-d", "/run/big"]
    site.guests[0].popen(server, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for(lambda: site.guests[0].connects("127.0.0.1", 8002), 5, "the server")
    site.balance(rule(member(0, 8002)))
    assert far.http(f"http://{PUBLIC}/file", "-o", "/dev/null")[0] == 200
    assert "mtu 1280" in site.router.run(["ip", "route", "get", "198.51.100.9"]).stdout
