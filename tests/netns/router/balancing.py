"""A router that balances load, with guests behind it and clients on the internet."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tests.netns.lab import Lab, Machine, Router
from tests.netns.router.traffic import tcp_echo
from tests.netns.router.world import identified, ports

Raw = dict[str, Any]

PUBLIC, OTHER = "203.0.113.2", "203.0.113.3"
FAST = {"interval": 1, "timeout": 1, "healthy": 1, "unhealthy": 2}


@dataclass
class Site:
    """A router with three guests, a client on the internet and another one elsewhere on it."""

    router: Router
    state: Raw
    guests: list[Machine]
    client: Machine
    stranger: Machine

    def balance(
        self,
        *rules: Raw,
        opened: Sequence[int] = (80,),
        certificates: Sequence[Raw] = (),
        sources: Sequence[str] = (),
        **sections: Any,
    ) -> None:
        """``opened`` to ``sources``; ``sections`` are added to the router's."""
        state = copy.deepcopy(self.state) | sections
        state["loadbalancer"] = {"rules": list(rules), "certificates": list(certificates)}
        state["firewall"]["ingress"] = [
            identified({"address": PUBLIC, "protocol": "tcp", "ports": ports(port), "sources": list(sources)})
            for port in opened
        ]
        self.router.push(state)

    def ask(self, count: int = 6, *options: str, url: str = f"http://{PUBLIC}/") -> Counter[str]:
        """Who answered ``count`` requests; "" for none."""
        return Counter(self.client.http(url, *options)[1] for _ in range(count))


def member(number: int, port: int = 8080) -> Raw:
    return {"address": f"10.1.1.{10 + number}", "port": port}


def rule(*members: Raw, **more: Any) -> Raw:
    return {
        "id": "rule-80",
        "address": PUBLIC,
        "port": 80,
        "interface": "eth0",
        "members": list(members),
        "health": FAST,
        **more,
    }


def build(lab: Lab) -> Site:
    """Guests are at 10.1.1.10, 11 and 12 with a web server at port 8080 and an echo server at port 7."""
    inside, outside = lab.segment("guest"), lab.segment("public")
    state: Raw = {
        "hostname": "r-lb",
        "interfaces": {
            "interfaces": [
                {"name": "eth0", "mac": lab.mac(), "role": "guest", "addresses": ["10.1.1.1/24"]},
                lab.control(),
                {
                    "name": "eth2",
                    "mac": lab.mac(),
                    "role": "public",
                    "addresses": [f"{PUBLIC}/24", f"{OTHER}/24"],
                    "gateway": "203.0.113.1",
                },
            ]
        },
        "nat": {"source": [{"interface": "eth0", "address": PUBLIC}]},
        "firewall": {"egress_defaults": [{"interface": "eth0", "allow": False}]},
    }
    router = lab.router(state, segments={"eth0": inside, "eth2": outside})
    guests = [lab.guest(inside, address=f"10.1.1.{10 + n}/24", gateway="10.1.1.1") for n in range(3)]
    for number, guest in enumerate(guests):
        guest.serve(8080, f"guest{number}")
        tcp_echo(guest, 7)
    return Site(
        router,
        state,
        guests,
        lab.host("client", outside, ["203.0.113.1/24", "192.0.2.1/32"]),
        lab.host("stranger", outside, ["203.0.113.9/24"]),
    )
