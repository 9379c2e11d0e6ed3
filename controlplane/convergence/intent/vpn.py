"""Site-to-site VPN connections and remote access VPNs of a router's networks."""

from __future__ import annotations

from dataclasses import dataclass, field

from sqlalchemy import select
from sqlalchemy.orm import Session

from controlplane.network import remoteaccess, vpnusers
from controlplane.network.vpn import REMOVED
from controlplane.secrets import Secrets
from controlplane.store.models import (
    PublicIp,
    RemoteAccessVpn,
    VpnConnection,
    VpnCustomerGateway,
    VpnGateway,
    VpnUser,
)


@dataclass(frozen=True)
class Tunnel:
    """One connection with both its ends."""

    id: str
    network_id: str
    public_ip_id: str
    peer: str
    peer_id: str | None
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


@dataclass(frozen=True)
class Door:
    """A remote access VPN and who may use it."""

    id: str
    network_id: str
    public_ip_id: str
    first: str
    last: str
    psk: str = field(repr=False)
    open_firewall: bool
    #: what IKEv2 clients know it by, and PEM texts
    identity: str
    certificate: str
    authority: str
    key: str = field(repr=False)
    #: names and passwords
    users: tuple[tuple[str, str], ...] = field(repr=False)


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
            peer_id=far.peer_id,
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


def load_doors(session: Session, served: list[str], secrets: Secrets) -> tuple[Door, ...]:
    """The remote access VPNs of these networks."""
    rows = session.scalars(
        select(RemoteAccessVpn)
        .where(RemoteAccessVpn.network_id.in_(served), RemoteAccessVpn.state != REMOVED)
        .order_by(RemoteAccessVpn.id)
    ).all()
    return tuple(
        Door(
            id=row.id,
            network_id=row.network_id,
            public_ip_id=row.public_ip_id,
            first=row.first,
            last=row.last,
            psk=secrets.open(row.psk),
            open_firewall=row.open_firewall,
            identity=remoteaccess.identity(row),
            certificate=row.certificate,
            authority=row.authority,
            key=secrets.open(row.private_key),
            users=_users(session, row.account_id, secrets),
        )
        for row in rows
    )


def _users(session: Session, account_id: str, secrets: Secrets) -> tuple[tuple[str, str], ...]:
    statement = select(VpnUser.name, VpnUser.password).where(
        VpnUser.account_id == account_id, VpnUser.state != vpnusers.REVOKED
    )
    return tuple((name, secrets.open(password)) for name, password in session.execute(statement.order_by(VpnUser.name)))
