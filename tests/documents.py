"""Router documents for tests and benchmarks, as the plain data that travels."""

from __future__ import annotations

import copy
from typing import Any

Raw = dict[str, Any]

GUEST_MAC, CONTROL_MAC, PUBLIC_MAC = "02:00:0a:01:00:01", "02:00:a9:fe:00:02", "02:00:cb:00:71:02"

SMALL: Raw = {
    "hostname": "r-1",
    "interfaces": {
        "interfaces": [
            {"name": "eth0", "mac": GUEST_MAC, "role": "guest", "network": "n1", "addresses": ["10.1.1.1/24"]},
            {"name": "eth1", "mac": CONTROL_MAC, "role": "control", "addresses": ["169.254.0.2/16"]},
            {
                "name": "eth2",
                "mac": PUBLIC_MAC,
                "role": "public",
                "addresses": ["203.0.113.2/24", "203.0.113.3/24", "203.0.113.4/24"],
                "gateway": "203.0.113.1",
            },
        ]
    },
    "dhcp": {
        "networks": [{"interface": "eth0", "subnet": "10.1.1.0/24", "gateway": "10.1.1.1", "domain": "a.example"}],
        "hosts": [
            {"id": "nic-1", "interface": "eth0", "mac": "02:00:0a:01:01:0a", "address": "10.1.1.10", "name": "vm1"},
            {"id": "nic-2", "interface": "eth0", "mac": "02:00:0a:01:01:0b", "address": "10.1.1.11", "name": "vm2"},
        ],
        "records": [{"name": "data-server", "address": "10.1.1.1"}],
        "resolvers": ["203.0.113.53"],
    },
    "nat": {
        "source": [{"interface": "eth0", "address": "203.0.113.2"}],
        "static": [{"address": "203.0.113.3", "guest": "10.1.1.11"}],
        "forwards": [
            {
                "id": "forward-1",
                "address": "203.0.113.2",
                "protocol": "tcp",
                "ports": {"first": 2222, "last": 2222},
                "guest": "10.1.1.10",
                "guest_ports": {"first": 22, "last": 22},
            },
            {
                "id": "forward-2",
                "address": "203.0.113.4",
                "protocol": "udp",
                "ports": {"first": 5000, "last": 5009},
                "guest": "10.1.1.10",
                "guest_ports": {"first": 6000, "last": 6009},
            },
        ],
    },
    "firewall": {
        "ingress": [
            {
                "id": "ingress-1",
                "address": "203.0.113.2",
                "protocol": "tcp",
                "ports": {"first": 2222, "last": 2222},
                "sources": ["198.51.100.0/24"],
            },
            {"id": "ingress-2", "address": "203.0.113.3", "protocol": "icmp", "icmp_type": 8, "icmp_code": 0},
        ],
        "egress": [{"id": "egress-1", "interface": "eth0", "protocol": "all", "sources": ["10.1.1.0/25"]}],
        "egress_defaults": [{"interface": "eth0", "allow": False}],
    },
    "metadata": {
        "interfaces": ["eth0"],
        "guests": [
            {"id": "vm-1", "address": "10.1.1.10", "items": {"local-hostname": "vm1"}, "user_data": "aGVsbG8="},
            {"id": "vm-2", "address": "10.1.1.11", "items": {}},
        ],
        "token_required": ["eth0"],
    },
    "passwords": {
        "interfaces": ["eth0"],
        "pending": [{"id": "password-1", "address": "10.1.1.10", "password": "correct horse"}],
    },
    "accounting": {},
}


def small_state() -> Raw:
    """A router's state with every section in use; a fresh copy, for tests that spoil it."""
    return copy.deepcopy(SMALL)


def document(state: Raw, generation: int = 1, identity: str = "r-1") -> Raw:
    """The envelope around a router's state."""
    return {"kind": "router", "version": 1, "id": identity, "generation": generation, "state": state}


def add_rules(state: Raw, count: int, guest: str = "10.1.1.10", address: str = "203.0.113.2") -> None:
    """Add ``count`` port forwards from port 10000 up, each with the firewall rule that opens it (count <= 55535)."""
    for number in range(count):
        ports = {"first": 10000 + number, "last": 10000 + number}
        state["nat"]["forwards"].append(
            {
                "id": f"00000000-0000-4000-8000-{number:012d}",
                "address": address,
                "protocol": "tcp",
                "ports": ports,
                "guest": guest,
                "guest_ports": {"first": 80, "last": 80},
            }
        )
        state["firewall"]["ingress"].append(
            {
                "id": f"00000000-0000-4000-9000-{number:012d}",
                "address": address,
                "protocol": "tcp",
                "ports": ports,
                "sources": ["0.0.0.0/0"],
            }
        )
