"""Passwords that wait for their guests."""

from __future__ import annotations

from ipaddress import IPv4Address

from pydantic import SecretStr

from controlplane.convergence.compile.encoding import dump
from controlplane.convergence.compile.served import Served
from router.services.password.model import GuestPassword, Passwords


def section(served: Served) -> bytes | None:
    """The document's ``passwords``; None when no network has the service."""
    names, intent = served.offering("UserData"), served.intent
    if not names:
        return None
    texts = dict(intent.passwords)
    passwords = Passwords(
        interfaces=tuple(names.values()),
        pending=tuple(
            GuestPassword(
                id=guest.password_id,
                address=IPv4Address(guest.address),
                password=SecretStr(texts[guest.password_id]),
            )
            for guest in sorted(intent.guests, key=lambda guest: guest.nic_id)
            if guest.default and guest.password_id in texts and guest.network_id in names
        ),
    )
    return dump(passwords)
