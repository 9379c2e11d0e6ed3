"""Router states for tests of the agent: what the services of a small network need."""

from __future__ import annotations

from typing import Any

from tests.netns.lab import Lab


def small_network(lab: Lab) -> dict[str, Any]:
    """One guest network with DHCP, source NAT, and the firewall."""
    return {
        "hostname": "router",
        "interfaces": {
            "interfaces": [
                {"name": "eth0", "mac": lab.mac(), "role": "guest", "network": "n1", "addresses": ["10.1.1.1/24"]},
                lab.control(),
                {
                    "name": "eth2",
                    "mac": lab.mac(),
                    "role": "public",
                    "network": "p1",
                    "addresses": ["203.0.113.5/24"],
                    "gateway": "203.0.113.1",
                },
            ]
        },
        "dhcp": {
            "networks": [
                {"interface": "eth0", "subnet": "10.1.1.0/24", "gateway": "10.1.1.1", "domain": "one.example"}
            ],
            "hosts": [],
        },
        "nat": {"source": [{"interface": "eth0", "address": "203.0.113.5"}], "forwards": []},
        "firewall": {"ingress": [], "egress_defaults": [{"interface": "eth0", "allow": True}]},
    }


def host(number: int, name: str) -> dict[str, Any]:
    return {
        "id": f"h{number}",
        "interface": "eth0",
        "mac": f"02:aa:00:00:00:{number:02x}",
        "address": f"10.1.1.{number}",
        "name": name,
    }


def forward(number: int) -> dict[str, Any]:
    ports = {"first": number, "last": number}
    return {
        "id": f"f{number}",
        "address": "203.0.113.5",
        "protocol": "tcp",
        "ports": ports,
        "guest": "10.1.1.20",
        "guest_ports": ports,
    }
