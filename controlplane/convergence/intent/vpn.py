"""Site-to-site VPN connections of a router's networks."""

from __future__ import annotations

from dataclasses import dataclass, field

from sqlalchemy import select
from sqlalchemy.orm import Session

from controlplane.network.vpn import REMOVED
from controlplane.secrets import Secrets
from controlplane.store.models import PublicIp, VpnConnection, VpnCustomerGateway, VpnGateway


@dataclass(frozen=True)
class Tunnel:
    """One connection with both its ends."""

    id: str
    network_id: str
    public_ip_id: str
    peer: str
    cidrs: tuple[str, ...]
    psk: str = field(repr=False)
    ike_policy: str
    esp_policy: str
    ike_version: str
    ike_lifetime: int
    esp_lifetime: int
    dpd: bool
    force_encap: bool
    split: bool
    passive: bool
    serial: int


def load(session: Session, served: list[str], secrets: Secrets) -> tuple[Tunnel, ...]:
    """The connections of these networks."""
    statement = (
        select(VpnConnection, VpnCustomerGateway, VpnGateway)
        .join(VpnCustomerGateway, VpnCustomerGateway.id == VpnConnection.customer_gateway_id)
        .join(VpnGateway, VpnGateway.id == VpnConnection.gateway_id)
        .join(PublicIp, PublicIp.id == VpnGateway.public_ip_id)
        .where(VpnGateway.network_id.in_(served), VpnConnection.state != REMOVED)
        .order_by(VpnConnection.id)
    )
    return tuple(
        Tunnel(
            id=connection.id,
            network_id=near.network_id or "",
            public_ip_id=near.public_ip_id,
            peer=far.gateway,
            cidrs=tuple(far.cidrs),
            psk=secrets.open(far.psk),
            ike_policy=far.ike_policy,
            esp_policy=far.esp_policy,
            ike_version=far.ike_version,
            ike_lifetime=far.ike_lifetime,
            esp_lifetime=far.esp_lifetime,
            dpd=far.dpd,
            force_encap=far.force_encap,
            split=far.split_connections,
            passive=connection.passive,
            serial=connection.serial,
        )
        for connection, far, near in session.execute(statement)
    )
