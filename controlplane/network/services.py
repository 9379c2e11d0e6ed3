"""Which services a network offers, by its offering (guide: chapter 9.4)."""

from __future__ import annotations

from controlplane.errors import UnsupportedError
from controlplane.store.models import Network


def offers(network: Network, service: str) -> bool:
    """``service`` as the API names it: Dhcp, Dns, SourceNat, StaticNat, PortForwarding, Firewall, UserData, ..."""
    return service in network.offering.services


def need(network: Network, service: str) -> None:
    """UnsupportedError when the network's offering lacks the service."""
    if not offers(network, service):
        raise UnsupportedError(
            f"network {network.name} does not offer {service}; "
            "use a network with an offering that has it, or change its offering with updateNetwork"
        )
