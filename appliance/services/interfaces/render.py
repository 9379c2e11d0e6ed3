"""Sets that name the public side, for the rules of every role: ``public_interfaces``, ``public_addresses``."""

from __future__ import annotations

from collections.abc import Iterable

from appliance.netfilter.ruleset import Ruleset, Set
from appliance.services.interfaces.model import Interface, Interfaces


def names(nics: Iterable[Interface]) -> dict[str, str]:
    """The interfaces' names as elements of a set of type ``ifname``."""
    return {f'"{nic.name}"': "" for nic in nics}


def render(interfaces: Interfaces) -> Ruleset:
    """The sets and no rules: nothing is let in by them."""
    return Ruleset(
        sets={
            "public_interfaces": Set("type ifname;", names(interfaces.of_role("public"))),
            "public_addresses": Set("type ipv4_addr;", {str(address): "" for address in interfaces.public_addresses()}),
        }
    )
