"""A VPN section with two connections, and one with remote access."""

from __future__ import annotations

import copy
from typing import Any

from tests.documents import small_state

Raw = dict[str, Any]

SECTION: Raw = {
    "connections": [
        {
            "id": "office",
            "local": "203.0.113.2",
            "peer": "198.51.100.9",
            "local_networks": ["10.1.1.0/24"],
            "remote_networks": ["192.168.1.0/24", "192.168.2.0/23"],
            "psk": "the key of the office",
            "version": "ikev1",
            "ike": {"encryption": "3des", "hash": "md5", "group": "modp1024"},
            "esp": {"encryption": "aes128", "hash": "sha1", "group": "modp1536"},
            "dpd": 30,
            "force_encap": True,
        },
        {
            "id": "branch",
            "local": "203.0.113.4",
            "peer": "198.51.100.10",
            "local_networks": ["10.1.0.0/16"],
            "remote_networks": ["172.16.0.0/24", "172.16.1.0/24"],
            "psk": "the key of the branch",
            "version": "ikev2",
            "ike": {"encryption": "aes256gcm16", "hash": "sha384", "group": None},
            "esp": {"encryption": "aes256gcm16", "hash": None, "group": "ecp384"},
            "ike_lifetime": 1000,
            "esp_lifetime": 100,
            "passive": True,
        },
    ]
}


def vpn_state() -> Raw:
    """The small state with a VPN; a fresh copy."""
    return small_state() | {"vpn": copy.deepcopy(SECTION)}


_CERTIFICATE = "-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----\n"

REMOTE: Raw = {
    "address": "203.0.113.2",
    "psk": "the key of the clients",
    "clients": {"first": "10.3.1.1", "last": "10.3.1.20"},
    "networks": ["10.1.1.0/24"],
    "dns": "10.1.1.1",
    "users": [{"name": "ann", "password": "Ann's secret"}, {"name": "bob@example.com", "password": "#bob"}],
    "ikev2": {
        "identity": "vpn.example.com",
        "certificate": _CERTIFICATE,
        "key": "-----BEGIN PRIVATE KEY-----\nMA==\n-----END PRIVATE KEY-----\n",
        "ca": _CERTIFICATE,
    },
}


def remote_state() -> Raw:
    """The small state with remote access alone; a fresh copy."""
    return small_state() | {"vpn": {"remote": [copy.deepcopy(REMOTE)]}}
