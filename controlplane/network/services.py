"""Which services a network offers, by its offering (guide: chapter 9.4)."""

from __future__ import annotations

from controlplane.errors import UnsupportedError
from controlplane.network.supported import VIRTUAL_ROUTER
from controlplane.store.models import Network


def offers(network: Network, service: str) -> bool:
    """``service`` as the API names it: Dhcp, Dns, SourceNat, StaticNat, PortForwarding, Firewall, UserData, ..."""
    return service in network.offering.services


def needs_router(network: Network) -> bool:
    """Whether a router has something to do for the network; an isolated one is nothing without its own."""
    return network.offering.guest_ip_type == "Isolated" or any(
        VIRTUAL_ROUTER in entry.get("providers", ()) for entry in network.offering.services.values()
    )


def need(network: Network, service: str) -> None:
    """UnsupportedError when the network's offering lacks the service."""
    if not offers(network, service):
        raise UnsupportedError(
            f"network {network.name} does not offer {service}; "
            "use a network with an offering that has it, or change its offering with updateNetwork"
        )
