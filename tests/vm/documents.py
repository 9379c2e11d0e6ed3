"""A small network whose router is a virtual machine: guests behind it, a host of the internet before it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tests.netns.lab import Lab, Machine, Router

Raw = dict[str, Any]

GATEWAY, GUEST, PUBLIC, INTERNET = "10.1.1.1", "10.1.1.10", "203.0.113.2", "203.0.113.1"
#: public port -> the guest's web server
FORWARDED, WEB = 8000, 8080


@dataclass
class Network:
    """``state`` is what the router has; tests leave it so."""

    lab: Lab
    router: Router
    state: Raw
    guest: Machine
    internet: Machine
    #: the segment that the router's public address and ``internet`` are on
    outside: str

    def reachable(self) -> bool:
        """Whether the guest's web server answers through the port forward."""
        return self.internet.http(f"http://{PUBLIC}:{FORWARDED}/", timeout=10) == (200, "guest")


def build(lab: Lab) -> Network:
    """Boot the router with every section of its document in use."""
    guests, public = lab.segment("guest"), lab.segment("public")
    mac = lab.mac()
    state = document(lab, mac)
    router = lab.router(state, segments={"eth0": guests, "eth2": public})
    network = Network(
        lab,
        router,
        state,
        lab.guest(guests, mac, hostname="vm1"),
        lab.host("internet", public, [f"{INTERNET}/24"]),
        public,
    )
    network.guest.dhcp(timeout=30)
    network.guest.serve(WEB, "guest")
    network.internet.serve(WEB, "internet")
    return network


def document(lab: Lab, guest_mac: str) -> Raw:
    def nic(name: str, role: str, address: str, **more: str) -> Raw:
        return {"name": name, "mac": lab.mac(), "role": role, "addresses": [address], **more}

    return {
        "hostname": "r-1",
        "interfaces": {
            # not in the order of their names, so that none is right by chance
            "interfaces": [
                nic("eth2", "public", f"{PUBLIC}/24", gateway=INTERNET),
                nic("eth0", "guest", f"{GATEWAY}/24", network="n1"),
                lab.control(),
            ]
        },
        "dhcp": {
            "networks": [{"interface": "eth0", "subnet": "10.1.1.0/24", "gateway": GATEWAY, "domain": "a.example"}],
            "hosts": [{"id": "nic-1", "interface": "eth0", "mac": guest_mac, "address": GUEST, "name": "vm1"}],
            "records": [{"name": "data-server", "address": GATEWAY}],
        },
        "nat": {"source": [{"interface": "eth0", "address": PUBLIC}], "static": [], "forwards": [forward(FORWARDED)]},
        "firewall": {
            "ingress": [ingress(FORWARDED)],
            "egress": [],
            "egress_defaults": [{"interface": "eth0", "allow": True}],
        },
        "metadata": {
            "interfaces": ["eth0"],
            "guests": [{"id": "vm-1", "address": GUEST, "items": {"local-hostname": "vm1"}, "user_data": "aGVsbG8="}],
        },
        "passwords": {
            "interfaces": ["eth0"],
            "pending": [{"id": "password-1", "address": GUEST, "password": "correct horse"}],
        },
        "loadbalancer": {"rules": []},
        "accounting": {},
    }


def forward(port: int) -> Raw:
    """A port forward to the guest's web server."""
    return {
        "id": f"forward-{port}",
        "address": PUBLIC,
        "protocol": "tcp",
        "ports": {"first": port, "last": port},
        "guest": GUEST,
        "guest_ports": {"first": WEB, "last": WEB},
    }


def ingress(port: int) -> Raw:
    """The firewall rule that opens it."""
    ports = {"first": port, "last": port}
    return {
        "id": f"ingress-{port}",
        "address": PUBLIC,
        "protocol": "tcp",
        "ports": ports,
        "sources": ["0.0.0.0/0"],
    }
