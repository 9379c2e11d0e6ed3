"""A router with two guest networks and two public interfaces, guests on both, and hosts of two internet providers."""

from __future__ import annotations

import copy
import zlib
from dataclasses import dataclass
from typing import Any

from appliance.schema.traffic import Traffic
from tests.netns.lab import Lab, Machine, Router

Raw = dict[str, Any]

SOURCE, FORWARDS, STATIC, SPARE = "203.0.113.2", "203.0.113.3", "203.0.113.4", "203.0.113.5"
SECOND, SECOND_FORWARDS, SECOND_STATIC = "198.51.100.2", "198.51.100.3", "198.51.100.4"
INTERNET, OTHER_INTERNET = "192.0.2.1", "192.0.2.129"


def ports(first: int, last: int | None = None) -> dict[str, int]:
    return {"first": first, "last": last or first}


def forward(address: str, public: dict[str, int], guest: str, private: dict[str, int], protocol: str = "tcp") -> Raw:
    name = f"{protocol}-{address}-{public['first']}"
    return {
        "id": name,
        "address": address,
        "protocol": protocol,
        "ports": public,
        "guest": guest,
        "guest_ports": private,
    }


def ingress(address: str, protocol: str = "tcp", public: dict[str, int] | None = None, **more: Any) -> Raw:
    return identified({"address": address, "protocol": protocol, "ports": public, **more})


def egress(interface: str = "eth4", **more: Any) -> Raw:
    return identified({"interface": interface, **more})


def identified(rule: Raw) -> Raw:
    """The same rule has the same id, as in the control plane."""
    return {"id": f"rule-{zlib.crc32(repr(rule).encode())}", **rule}


@dataclass
class World:
    """``state`` is what the router has now; ``internet`` is behind the first public interface, ``other`` the second."""

    router: Router
    state: Raw
    a1: Machine
    a2: Machine
    b1: Machine
    internet: Machine
    other: Machine

    def traffic(self) -> Traffic:
        found = self.router.agent.traffic()
        assert found is not None
        return found

    def change(self, **sections: Any) -> None:
        """Push the base state with sections ``nat`` and ``firewall`` as given (missing keys keep their base values)."""
        state = copy.deepcopy(self.state)
        for section, values in sections.items():
            state[section] = {**state[section], **values}
        self.router.push(state)


def build(lab: Lab) -> World:
    """Egress of network a (eth0) is allowed by default, of network b (eth4) it is not."""
    a, b, first, second = lab.segment("guest"), lab.segment("guest"), lab.segment("public"), lab.segment("public")
    guest = lab.mac()

    def nic(name: str, role: str, addresses: list[str], **more: Any) -> Raw:
        return {"name": name, "mac": lab.mac(), "role": role, "addresses": addresses, **more}

    seconds = (SECOND, SECOND_FORWARDS, SECOND_STATIC)
    state: Raw = {
        "hostname": "r-data",
        "interfaces": {
            "interfaces": [
                nic("eth0", "guest", ["10.1.1.1/24"]),
                lab.control(),
                nic("eth2", "public", [f"{ip}/24" for ip in (SOURCE, FORWARDS, STATIC, SPARE)], gateway="203.0.113.1"),
                nic(
                    "eth3",
                    "public",
                    [f"{ip}/24" for ip in seconds],
                    gateway="198.51.100.1",
                ),
                nic("eth4", "guest", ["10.1.2.1/24"]),
            ]
        },
        "dhcp": {
            "networks": [{"interface": "eth0", "subnet": "10.1.1.0/24", "gateway": "10.1.1.1", "domain": "a.example"}],
            "hosts": [{"id": "nic-a1", "interface": "eth0", "mac": guest, "address": "10.1.1.10", "name": "a1"}],
        },
        "nat": {
            "source": [{"interface": "eth0", "address": SOURCE}, {"interface": "eth4", "address": SECOND}],
            "static": [],
            "forwards": [],
        },
        "firewall": {
            "ingress": [],
            "egress": [],
            "egress_defaults": [{"interface": "eth0", "allow": True}, {"interface": "eth4", "allow": False}],
        },
        "accounting": {},
    }
    router = lab.router(state, segments={"eth0": a, "eth2": first, "eth3": second, "eth4": b})
    world = World(
        router=router,
        state=state,
        a1=lab.guest(a, guest, address="10.1.1.10/24", gateway="10.1.1.1"),
        a2=lab.guest(a, address="10.1.1.11/24", gateway="10.1.1.1"),
        b1=lab.guest(b, address="10.1.2.10/24", gateway="10.1.2.1"),
        internet=lab.host("internet", first, ["203.0.113.1/24", f"{INTERNET}/32"]),
        other=lab.host("other", second, ["198.51.100.1/24", f"{OTHER_INTERNET}/32"]),
    )
    for machine in (world.a1, world.a2, world.b1, world.internet, world.other):
        machine.serve(8080, machine.id)
    return world
