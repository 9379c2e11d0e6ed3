"""VPN: a tunnel's start, its throughput beside strongSwan set up by hand, fifty in one document; a user who goes."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial

from router.services.vpn.plane import MTU
from tests.bench import cloud
from tests.bench.figures import Figure, Target, interleaved
from tests.bench.subjects.api import FIRST_PACKET
from tests.bench.subjects.memory import sizes
from tests.bench.subjects.throughput import PORT, gigabits
from tests.netns.lab import Lab, Machine
from tests.netns.vpn.access import NAME, access
from tests.netns.vpn.client import Ikev2Client
from tests.netns.vpn.peer import Peer
from tests.netns.vpn.sites import PSK, Pair, Site, connection, pair, site, with_networks
from tests.wait import wait_for

ORDER = 11

#: algorithms of both sides of the comparison, as strongSwan writes them
_IKE, _ESP = "aes256-sha256-modp2048", "aes256-sha256"
_POLICIES = {
    "version": "ikev2",
    "ike": {"encryption": "aes256", "hash": "sha256", "group": "modp2048"},
    "esp": {"encryption": "aes256", "hash": "sha256"},
}
_WEB = 8080


def measure(quick: bool) -> Iterator[Figure]:
    with cloud.lab() as lab:
        sites = pair(lab)
        yield from _start(sites, 3 if quick else 9)
        yield from _throughput(lab, sites, *((1, 3) if quick else (2, 9)))
    with cloud.lab() as lab:
        yield from _many(lab, 10 if quick else 50)
    with cloud.lab() as lab:
        yield from _removed(lab, 3 if quick else 9)


def _start(sites: Pair, rounds: int) -> Iterator[Figure]:
    sites.b.guest.serve(_WEB, "b")
    here, there = sites.connect(**_POLICIES)
    # the far end waits, as an office's gateway does
    sites.b.push({**there, "passive": True})
    seconds = []
    argv = [sys.executable, "-c", FIRST_PACKET.read_text()]
    for _ in range(rounds):
        sites.a.push()
        wait_for(lambda: not sites.a.guest.connects("10.2.1.10", _WEB), 10, "the tunnel to end")
        with sites.a.guest.popen(argv, stdin=subprocess.PIPE) as prober:
            assert prober.stdin and prober.stdout
            prober.stdin.write(f"10.2.1.10 {_WEB}\n")
            prober.stdin.flush()
            time.sleep(0.2)  # it is trying by now, so that its start is not measured
            begin = time.monotonic()
            sites.a.push(here)
            seconds.append(float(prober.stdout.readline()) - begin)
            prober.stdin.close()
    yield Figure("site-to-site tunnel: document pushed to first connection", "s", seconds, Target("at most", 1.0))


def _throughput(lab: Lab, sites: Pair, seconds: int, rounds: int) -> Iterator[Figure]:
    sites.push(**_POLICIES)
    sites.wait_up()
    near, far = _by_hand(lab, sites)
    for client, server, address in ((sites.a.guest, sites.b.guest, "10.2.1.10"), (near, far, "10.12.1.10")):
        server.run(["iperf3", "-s", "-D", "-p", str(PORT)])
        cloud.wait_open(client, address, PORT)
    for direction, options in (("out", ()), ("in", ("-R",))):
        samples = interleaved(
            rounds,
            router=partial(gigabits, sites.a.guest, "10.2.1.10", seconds, *options),
            plain=partial(gigabits, near, "10.12.1.10", seconds, *options),
        )
        yield Figure(
            f"site-to-site throughput {direction}, aes256-sha256",
            "Gbit/s",
            samples["router"],
            Target("at least", 0.95, of="ratio"),
            "strongSwan by hand",
            samples["plain"],
        )


def _by_hand(lab: Lab, sites: Pair) -> tuple[Machine, Machine]:
    """Guests behind two machines that only forward, with strongSwan of the same algorithms between them."""
    guests, gateways = [], []
    for number in (11, 12):
        inside = lab.segment()
        machine = cloud.plain_router(lab, inside, sites.outside, f"10.{number}.1.1/24", f"203.0.113.{number}/24")
        gateways.append(Peer(machine, f"203.0.113.{number}", (f"10.{number}.1.0/24",)))
        guest = lab.guest(inside, address=f"10.{number}.1.10/24", gateway=f"10.{number}.1.1")
        # nobody clamps segments here, and the comparison is about packets of the same size
        guest.run(["ip", "link", "set", "eth0", "mtu", str(MTU)])
        guests.append(guest)
    for one, other in (gateways, gateways[::-1]):
        one.configure(other.address, other.networks, psk=PSK, version=2, ike=_IKE, esp=_ESP, call=one is gateways[1])
    wait_for(lambda: guests[0].ping("10.12.1.10"), 30, "the tunnel made by hand")
    return guests[0], guests[1]


def _many(lab: Lab, count: int) -> Iterator[Figure]:
    outside = lab.segment("public")
    ends = [[f"203.0.113.{first + one}" for one in range(count)] for first in (10, 100)]
    sites = [site(lab, number, outside, tuple(ends[number - 1])) for number in (1, 2)]
    for number, built in enumerate(sites, 1):
        with_networks(built, number, count)
        built.push()
    sites[1].push(*_connections(ends, 2, count, passive=True))
    before = sizes(lab, sites[0].router)
    begin = time.monotonic()
    status = sites[0].push(*_connections(ends, 1, count))
    assert status.attempt is not None
    yield Figure(f"{count} site-to-site connections in one document: engine", "s", [status.attempt.seconds])
    wait_for(lambda: _all_up(sites[0], count), 120, "all to connect", interval=0.1)
    yield Figure("the same, until all are connected", "s", [time.monotonic() - begin])
    after = sizes(lab, sites[0].router)
    grown = {name: size - before.get(name, 0.0) for name, size in after.items()}
    yield Figure("the same, memory", "MB PSS", [sum(grown.values())], details={"by_process": grown})


def _connections(
    ends: list[list[str]], number: int, count: int, *, passive: bool = False
) -> Iterator[dict[str, object]]:
    here, there = ends[number - 1], ends[2 - number]
    for one in range(count):
        inside, behind = (f"10.{end}.{10 + one}.0/24" for end in (number, 3 - number))
        yield connection(here[one], there[one], (inside,), (behind,), passive=passive, **_POLICIES)


def _all_up(built: Site, count: int) -> bool:
    states = [condition["state"] for condition in built.conditions().values()]
    return states.count("Connected") == count


def _removed(lab: Lab, rounds: int) -> Iterator[Figure]:
    """Of two people who are connected one is taken out of the document."""
    outside = lab.segment("public")
    server = site(lab, 1, outside)
    passwords = {"ann": "password of ann", "ben": "password of ben"}
    remote = access(lab, server.public, networks=[server.network], dns="10.1.1.1", psk="not for IKEv2", users=passwords)
    authority = lab.authority.certificate.decode()
    devices = [
        Ikev2Client(
            lab.host("device", outside, [f"203.0.113.{number}/24"], "203.0.113.254"), server.public, NAME, authority
        )
        for number in (100, 101)
    ]
    seconds = []
    for _ in range(rounds):
        server.router.push({**server.state, "vpn": {"remote": [remote]}})
        for device, (user, password) in zip(devices, passwords.items(), strict=True):
            if not device.running or not device.connected:
                assert device.connect(user, password), device.log()
        wait_for(partial(devices[0].machine.ping, "10.1.1.10"), 10, "an echo from the guest")
        begin = time.monotonic()
        server.router.push({**server.state, "vpn": {"remote": [{**remote, "users": remote["users"][1:]}]}})
        wait_for(lambda: not devices[0].connected, 10, "the user to be disconnected")
        seconds.append(time.monotonic() - begin)
        assert devices[1].connected
    yield Figure("VPN user removed from the document, until disconnected", "s", seconds, Target("at most", 2.0))
