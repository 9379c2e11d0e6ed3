"""Remote access as a router's document has it, with a certificate of the lab's authority."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from tests.netns.lab import Lab

Raw = dict[str, Any]

#: what clients of IKEv2 know the server by
NAME = "vpn.example.com"


def certified(lab: Lab) -> dict[str, str]:
    """A new certificate for NAME, and its key."""
    issued = lab.authority.issue_site([NAME], timedelta(days=1))
    return {"certificate": issued.certificate.decode(), "key": issued.key.decode()}


def access(
    lab: Lab, address: str, *, networks: Sequence[str], dns: str, psk: str, users: Mapping[str, str], **more: Any
) -> Raw:
    """Remote access on ``address`` by both protocols; clients are in 10.3.1.0/26. ``users``: names and passwords."""
    return {
        "address": address,
        "psk": psk,
        "clients": {"first": "10.3.1.1", "last": "10.3.1.60"},
        "networks": list(networks),
        "dns": dns,
        "users": [{"name": name, "password": password} for name, password in users.items()],
        "ikev2": {"identity": NAME, "ca": lab.authority.certificate.decode(), **certified(lab)},
        **more,
    }
