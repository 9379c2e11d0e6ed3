"""Public paths: with several public interfaces, which of them a connection keeps to, as numbers in its mark."""

from __future__ import annotations

from appliance.services.interfaces.model import Interfaces

#: bits of packet and connection marks that name a public path; bits 22 and 23 belong to the router's firewall
PATH_MASK = 0xFF000000
PATH_SHIFT = 24


def paths(interfaces: Interfaces) -> dict[str, int]:
    """Number of each public interface that has a gateway: 0 for the one with the default route, then 1, 2, ..."""
    return {nic.name: number for number, nic in enumerate(nic for nic in interfaces.of_role("public") if nic.gateway)}
