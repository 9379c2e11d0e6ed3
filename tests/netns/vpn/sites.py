"""Two sites, each a router with guests behind it, on one public network; site-to-site connections between them."""

from __future__ import annotations

import copy
import json
import sys
from dataclasses import dataclass
from typing import Any

from appliance.schema.status import Status
from tests.netns.lab import Lab, Machine, Router
from tests.wait import wait_for

Raw = dict[str, Any]

PSK = "correct horse battery staple"
#: charon's, in a router
SOCKET = "/run/gatehouse/vpn/charon.vici"

_VICI = """
import json, socket, sys
import vici
with socket.socket(socket.AF_UNIX) as connection:
    connection.connect(sys.argv[1])
    list(vici.Session(connection).request(sys.argv[2], json.loads(sys.argv[3])))
"""


def connection(local: str, peer: str, networks: tuple[str, ...], remotes: tuple[str, ...], **more: Any) -> Raw:
    return {
        "id": f"to-{peer}",
        "local": local,
        "peer": peer,
        "local_networks": list(networks),
        "remote_networks": list(remotes),
        "psk": PSK,
        **more,
    }


@dataclass
class Site:
    """A router with a guest on each of its two networks."""

    router: Router
    state: Raw
    guest: Machine
    #: in a second network
    other: Machine
    public: str
    network: str

    def push(self, *connections: Raw) -> Status:
        """Make the router have these connections, and nothing else of a VPN."""
        state = copy.deepcopy(self.state)
        if connections:
            state["vpn"] = {"connections": list(connections)}
            state["accounting"] = {
                "vpn": [{"id": one["id"], "networks": one["remote_networks"]} for one in connections],
            }
        return self.router.push(state)

    def conditions(self) -> dict[str, dict[str, str]]:
        """Connection id -> what the router reports of it."""
        report = self.router.status().reports.get("vpn")
        found: dict[str, dict[str, str]] = report["connections"] if report else {}
        return found

    def wait_state(self, wanted: str, id: str, timeout: float = 15) -> dict[str, str]:
        """Wait until the connection is reported as ``wanted``."""

        def look() -> dict[str, str] | None:
            condition = self.conditions().get(id)
            assert condition is not None and condition["state"] == wanted, condition
            return condition

        found = wait_for(look, timeout, f"{id} to be {wanted}")
        assert found is not None
        return found

    def counted(self, id: str) -> tuple[int, int]:
        """Bytes that came and went by a connection."""
        traffic = self.router.agent.traffic()
        assert traffic is not None
        return next(((one.received, one.sent) for one in traffic.counters if (one.id, one.kind) == (id, "vpn")), (0, 0))

    def vici(self, command: str, message: Raw) -> None:
        """Have this router's charon do something that its agent does not know of."""
        self.router.run([sys.executable, "-c", _VICI, SOCKET, command, json.dumps(message)])

    def swanctl(self, *arguments: str, check: bool = True) -> str:
        """What strongSwan's own tool says of this router's charon."""
        return self.router.run(
            [
                "env",
                "STRONGSWAN_CONF=/etc/gatehouse/vpn/strongswan.conf",
                "swanctl",
                *arguments,
                "--uri",
                f"unix://{SOCKET}",
            ],
            check=check,
        ).stdout


def site(lab: Lab, number: int, outside: str, publics: tuple[str, ...] = (), *, far: bool = False) -> Site:
    """Site ``number``: public address 203.0.113.<number> and ``publics``, guests in 10.<number>.1.0/24 and .2.0/24."""
    inside, second = lab.segment("guest"), lab.segment("guest")
    public, gateway = f"203.0.113.{number}", f"10.{number}.1.1"
    state: Raw = {
        "hostname": f"r-{number}",
        "interfaces": {
            "interfaces": [
                {"name": "eth0", "mac": lab.mac(), "role": "guest", "addresses": [f"{gateway}/24"]},
                lab.control(),
                {"name": "eth3", "mac": lab.mac(), "role": "guest", "addresses": [f"10.{number}.2.1/24"]},
                {
                    "name": "eth2",
                    "mac": lab.mac(),
                    "role": "public",
                    "addresses": [f"{public}/24", *(f"{one}/24" for one in publics)],
                    "gateway": "203.0.113.254",
                },
            ]
        },
        "nat": {"source": [{"interface": "eth0", "address": public}]},
        "firewall": {"egress_defaults": [{"interface": "eth0", "allow": True}]},
    }
    router = lab.router(state, segments={"eth0": inside, "eth2": outside, "eth3": second}, far=far)
    other = lab.guest(second, address=f"10.{number}.2.10/24", gateway=f"10.{number}.2.1")
    guest = lab.guest(inside, address=f"10.{number}.1.10/24", gateway=gateway)
    return Site(router, state, guest, other, public, f"10.{number}.1.0/24")


def with_networks(built: Site, number: int, count: int) -> None:
    """Give a site's first guest network, and the guest in it, ``count`` subnets 10.<number>.<10 and more>.0/24."""
    [inside] = [nic for nic in built.state["interfaces"]["interfaces"] if nic["name"] == "eth0"]
    inside["addresses"] += [f"10.{number}.{10 + one}.1/24" for one in range(count)]
    script = "".join(f"ip address add 10.{number}.{10 + one}.10/24 dev eth0; " for one in range(count))
    built.guest.run(["sh", "-c", script])


@dataclass
class Pair:
    """Two sites and a host on the internet between them."""

    a: Site
    b: Site
    internet: Machine
    #: the segment that their public addresses are on
    outside: str

    def connect(self, **more: Any) -> tuple[Raw, Raw]:
        """The two ends' connections."""
        a, b = self.a, self.b
        return (
            connection(a.public, b.public, (a.network,), (b.network,), **more),
            connection(b.public, a.public, (b.network,), (a.network,), **more),
        )

    def push(self, **more: Any) -> None:
        """One connection, at both ends."""
        here, there = self.connect(**more)
        self.a.push(here)
        self.b.push(there)

    def wait_up(self, timeout: float = 15) -> None:
        self.a.wait_state("Connected", f"to-{self.b.public}", timeout)
        self.b.wait_state("Connected", f"to-{self.a.public}", timeout)


def pair(lab: Lab, publics: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())) -> Pair:
    """Two sites, 1 and 2."""
    outside = lab.segment("public")
    internet = lab.host("internet", outside, ["203.0.113.254/24"])
    sites = site(lab, 1, outside, publics[0]), site(lab, 2, outside, publics[1], far=True)
    return Pair(*sites, internet, outside)
