"""1,000 guests ask for leases at once: the router beside dnsmasq alone with a configuration written by hand."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from tests.bench import cloud
from tests.bench.figures import Figure, Target, interleaved
from tests.netns.lab import Lab, Machine
from tests.wait import wait_for

ORDER = 5

STORM = Path(__file__).parents[1] / "dhcp_storm.py"

#: what an administrator would write for the same service
BY_HAND = """\
port=0
interface=eth0
bind-interfaces
dhcp-range=10.1.0.0,static,255.255.0.0,86400
dhcp-authoritative
dhcp-lease-max=65536
dhcp-leasefile=/run/leases
no-ping
"""


def measure(quick: bool) -> Iterator[Figure]:
    guests, rounds = (100, 2) if quick else (1_000, 5)
    with cloud.lab() as lab:
        served, alone = lab.segment(), lab.segment()
        cloud.boot(lab, cloud.state(lab, rules=1, guests=guests), served, lab.segment("public"))
        _dnsmasq_alone(lab, alone, guests)
        results: dict[str, list[dict[str, Any]]] = {"router": [], "alone": []}

        def rate(name: str, machine: Machine) -> float:
            results[name].append(_storm(machine, guests))
            found: float = results[name][-1]["rate"]
            return found

        samples = interleaved(
            rounds,
            router=partial(rate, "router", lab.guest(served)),
            alone=partial(rate, "alone", lab.guest(alone)),
        )
    mine = results["router"]
    yield Figure(
        f"{guests:,} guests ask for leases at once",
        "leases/s",
        samples["router"],
        None,
        "dnsmasq alone",
        samples["alone"],
    )
    unserved = [guests - result["served"] for result in mine]
    wrong = [result["twice"] + _not_theirs(result["addresses"]) for result in mine]
    yield Figure("of these, without a lease", "guests", [max(unserved)], Target("at most", 0))
    yield Figure("of these, with an address twice or not theirs", "guests", [max(wrong)], Target("at most", 0))


def _storm(machine: Machine, guests: int) -> dict[str, Any]:
    machine.run(["ip", "link", "set", "eth0", "up"])
    argv = [sys.executable, str(STORM), "eth0", str(guests), cloud.guest_mac(0), "30"]
    found: dict[str, Any] = json.loads(machine.run(argv, timeout=60).stdout)
    return found


def _not_theirs(addresses: dict[str, str]) -> int:
    right = {cloud.guest_mac(number): cloud.guest_address(number) for number in range(len(addresses))}
    return sum(right.get(mac) != address for mac, address in addresses.items())


def _dnsmasq_alone(lab: Lab, segment: str, guests: int) -> None:
    machine = lab.guest(segment, address="10.1.0.1/16")
    hosts = [f"dhcp-host={cloud.guest_mac(n)},{cloud.guest_address(n)},vm{n}\n" for n in range(guests)]
    machine.write("/run/by-hand.conf", BY_HAND + "".join(hosts))
    machine.popen(["dnsmasq", "-k", "--conf-file=/run/by-hand.conf", "--user=root", "--log-facility=/run/log"])
    wait_for(lambda: "67" in machine.run(["ss", "-lnuH", "sport", "=", "67"]).stdout, 5, "dnsmasq alone")
