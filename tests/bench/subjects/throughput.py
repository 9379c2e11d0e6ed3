"""Throughput of one TCP stream through a router with 10,000 rules, beside a machine that only forwards (iperf3)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial

from tests.bench import cloud
from tests.bench.figures import Figure, Target, interleaved
from tests.netns.lab import Machine
from tests.wait import wait_for

ORDER = 4
PORT = 5201


def measure(quick: bool) -> Iterator[Figure]:
    rules = 1_000 if quick else 10_000
    seconds, rounds = (1, 3) if quick else (2, 11)
    with cloud.lab() as lab:
        outside, inside, plain = lab.segment("public"), lab.segment(), lab.segment()
        client = lab.host("internet", outside, ["203.0.113.1/24"])
        raw = cloud.state(lab, rules=rules)
        port = {"first": PORT, "last": PORT}
        raw["nat"]["forwards"].append(
            {**raw["nat"]["forwards"][0], "id": "iperf3", "ports": port, "guest_ports": port},
        )
        raw["firewall"]["ingress"].append({**raw["firewall"]["ingress"][0], "id": "iperf3", "ports": port})
        cloud.boot(lab, raw, inside, outside)
        cloud.plain_router(lab, plain, outside, "10.2.0.1/16", "203.0.113.4/24")
        client.run(["ip", "route", "add", "10.2.0.0/16", "via", "203.0.113.4"])
        for guest in (
            lab.guest(inside, address="10.1.1.10/16", gateway="10.1.0.1"),
            lab.guest(plain, address="10.2.1.10/16", gateway="10.2.0.1"),
        ):
            guest.run(["iperf3", "-s", "-D", "-p", str(PORT)])
        for address in ("203.0.113.2", "10.2.1.10"):
            cloud.wait_open(client, address, PORT)
        for direction, options in (("to the guest", ()), ("from the guest", ("-R",))):
            samples = interleaved(
                rounds,
                router=partial(gigabits, client, "203.0.113.2", seconds, *options),
                plain=partial(gigabits, client, "10.2.1.10", seconds, *options),
            )
            yield Figure(
                f"throughput {direction}, {rules:,} rules",
                "Gbit/s",
                samples["router"],
                Target("at least", 0.9, of="ratio"),
                "forwarding alone",
                samples["plain"],
            )


def gigabits(client: Machine, address: str, seconds: int, *options: str) -> float:
    """One TCP stream to ``address`` by iperf3."""
    argv = ["iperf3", "-J", "-c", address, "-p", str(PORT), "-t", str(seconds), "-O", "0.5", *options]

    def received() -> float:
        # without a sum, the server was busy with somebody before
        return float(json.loads(client.run(argv).stdout)["end"]["sum_received"]["bits_per_second"])

    return wait_for(received, 60, "iperf3 to measure") / 1e9
