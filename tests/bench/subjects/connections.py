"""New connections per second through a router with 10,000 port forwards, beside one with a single forward."""

from __future__ import annotations

import itertools
import json
import statistics
import sys
from collections.abc import Iterator

from tests.bench import cloud
from tests.bench.figures import Figure, Target, interleaved
from tests.netns.lab import Lab, Machine, Router

ORDER = 3

#: the client resets its connections; entries that stay 10 s would fill the table with what real clients do not leave
SHORT = "echo 1 >/proc/sys/net/netfilter/nf_conntrack_tcp_timeout_close"


def _router(lab: Lab, public: str, segment: str, rules: int) -> Router:
    guests = lab.segment()
    router = cloud.boot(lab, cloud.state(lab, rules=rules, public=public, mac=lab.mac()), guests, segment)
    router.run(["sh", "-c", SHORT])
    cloud.storm_server(lab.guest(guests, address="10.1.1.10/16", gateway="10.1.0.1"), 80)
    return router


def measure(quick: bool) -> Iterator[Figure]:
    many = 1_000 if quick else 10_000
    seconds, rounds = (0.5, 2) if quick else (2.0, 7)
    with cloud.lab() as lab:
        outside = lab.segment("public")
        client = lab.host("internet", outside, ["203.0.113.1/24"])
        client.run(["sh", "-c", "echo 1024 65535 >/proc/sys/net/ipv4/ip_local_port_range"])
        _router(lab, "203.0.113.2", outside, 1)
        _router(lab, "203.0.113.3", outside, many)
        inside = lab.segment()
        cloud.plain_router(lab, inside, outside, "10.2.0.1/16", "203.0.113.4/24")
        cloud.storm_server(lab.guest(inside, address="10.2.1.10/16", gateway="10.2.0.1"), 80)
        client.run(["ip", "route", "add", "10.2.0.0/16", "via", "203.0.113.4"])
        shares: list[float] = []

        def rate(address: str, first: int, count: int) -> float:
            cloud.wait_open(client, address, first + count - 1)
            found = _storm(client, address, first, count, seconds)
            shares.append(found["user_share"])
            assert found["failed"] <= found["rate"] / 1000, f"{address}: connections failed: {found}"
            return found["rate"]

        # the same traffic for both, through another of the rules each round
        ports = itertools.cycle(cloud.FIRST_PORT + many * step // 7 for step in (0, 3, 5, 1, 6, 2, 4))
        samples = interleaved(
            rounds,
            many=lambda: rate("203.0.113.3", next(ports), 1),
            spread=lambda: rate("203.0.113.3", cloud.FIRST_PORT, many),
            one=lambda: rate("203.0.113.2", cloud.FIRST_PORT, 1),
            plain=lambda: rate("10.2.1.10", 80, 1),
        )
    details = {"client_user_share": round(statistics.median(shares), 3)}
    yield Figure(
        f"new connections with {many:,} rules",
        "/s",
        samples["many"],
        Target("at least", 0.9, of="ratio"),
        "one rule",
        samples["one"],
        details,
    )
    yield Figure(
        f"the same, spread over all {many:,} ports",
        "/s",
        samples["spread"],
        None,
        "one rule, one port",
        samples["one"],
        details,
    )
    yield Figure(
        "new connections with one rule", "/s", samples["one"], None, "forwarding alone", samples["plain"], details
    )


def _storm(client: Machine, address: str, first: int, count: int, seconds: float) -> dict[str, float]:
    argv = [sys.executable, str(cloud.STORM), "connect", address, str(first), str(count), str(seconds)]
    found: dict[str, float] = json.loads(client.run(argv).stdout)
    return found
