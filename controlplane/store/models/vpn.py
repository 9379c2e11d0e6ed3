"""VPN. Site to site: gateways of customers, gateways of networks, connections between the two. Remote access: a
network's door for people's own devices, and the people.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ForeignKey, String, Text, true
from sqlalchemy import UniqueConstraint as Unique
from sqlalchemy.orm import Mapped, mapped_column, relationship

from controlplane.store.models.base import Entity
from controlplane.store.models.identity import Account
from controlplane.store.models.networks import Network, PublicIp


class VpnCustomerGateway(Entity):
    """The far end: its address, what is behind it, and how to talk to it."""

    __tablename__ = "vpn_customer_gateway"
    account_id: Mapped[str] = mapped_column(ForeignKey("account.id"))
    name: Mapped[str] = mapped_column(String(255))
    #: its address
    gateway: Mapped[str] = mapped_column(String(15))
    #: what it calls itself in IKE, None: its address
    peer_id: Mapped[str | None] = mapped_column(String(255))
    cidrs: Mapped[list[str]]
    #: the preshared key, sealed
    psk: Mapped[bytes]
    #: as given: ``aes256-sha256;modp2048``
    ike_policy: Mapped[str] = mapped_column(String(255))
    esp_policy: Mapped[str] = mapped_column(String(255))
    #: "ike", "ikev1", "ikev2"
    ike_version: Mapped[str] = mapped_column(String(8), default="ike")
    #: seconds
    ike_lifetime: Mapped[int] = mapped_column(default=86400)
    esp_lifetime: Mapped[int] = mapped_column(default=3600)
    dpd: Mapped[bool] = mapped_column(default=False)
    force_encap: Mapped[bool] = mapped_column(default=False)
    split_connections: Mapped[bool] = mapped_column(default=False)
    account: Mapped[Account] = relationship()
    __table_args__ = (Unique("account_id", "name"),)


class VpnGateway(Entity):
    """The near end: a public address of a network's router, or of a VPC's."""

    __tablename__ = "vpn_gateway"
    account_id: Mapped[str] = mapped_column(ForeignKey("account.id"))
    network_id: Mapped[str | None] = mapped_column(ForeignKey("network.id"), unique=True)
    #: instead of ``network_id``
    vpc_id: Mapped[str | None] = mapped_column(String(36), unique=True)
    public_ip_id: Mapped[str] = mapped_column(ForeignKey("public_ip.id"))
    for_display: Mapped[bool] = mapped_column(default=True, server_default=true())
    account: Mapped[Account] = relationship()
    network: Mapped[Network | None] = relationship()
    public_ip: Mapped[PublicIp] = relationship()


class VpnConnection(Entity):
    """A tunnel between the two."""

    __tablename__ = "vpn_connection"
    account_id: Mapped[str] = mapped_column(ForeignKey("account.id"))
    gateway_id: Mapped[str] = mapped_column(ForeignKey("vpn_gateway.id"), index=True)
    #: a customer gateway has one connection at a time
    customer_gateway_id: Mapped[str] = mapped_column(ForeignKey("vpn_customer_gateway.id"), unique=True)
    passive: Mapped[bool] = mapped_column(default=False)
    #: counts the resets
    serial: Mapped[int] = mapped_column(default=0)
    #: "Pending", then what the router reports: "Connecting", "Connected", "Disconnected", "Error"; "Removed" on its
    #: way out, when it is no longer part of the desired state
    state: Mapped[str] = mapped_column(String(16), default="Pending")
    #: why it is not connected
    detail: Mapped[str] = mapped_column(String(1024), default="")
    for_display: Mapped[bool] = mapped_column(default=True, server_default=true())
    account: Mapped[Account] = relationship()
    gateway: Mapped[VpnGateway] = relationship()
    customer_gateway: Mapped[VpnCustomerGateway] = relationship()


class RemoteAccessVpn(Entity):
    """Remote access to a network on its source-NAT address, by L2TP over IPsec and by IKEv2."""

    __tablename__ = "remote_access_vpn"
    account_id: Mapped[str] = mapped_column(ForeignKey("account.id"), index=True)
    network_id: Mapped[str] = mapped_column(ForeignKey("network.id"), unique=True)
    public_ip_id: Mapped[str] = mapped_column(ForeignKey("public_ip.id"), unique=True)
    #: addresses for clients, both included; the first is the server's own
    first: Mapped[str] = mapped_column(String(15))
    last: Mapped[str] = mapped_column(String(15))
    #: the preshared key of L2TP's IPsec, sealed
    psk: Mapped[bytes]
    #: its ports are open without a firewall rule
    open_firewall: Mapped[bool] = mapped_column(default=True)
    for_display: Mapped[bool] = mapped_column(default=True)
    #: "Added", "Running"; "Removed" on its way out, when it is no longer part of the desired state
    state: Mapped[str] = mapped_column(String(16), default="Added")
    #: what its router does not serve of it, and why
    detail: Mapped[str] = mapped_column(String(1024), default="")
    #: DNS name that IKEv2 clients know it by; None for the address
    server_name: Mapped[str | None] = mapped_column(String(255))
    #: what it shows IKEv2 clients, and the authority's that they trust, PEM
    certificate: Mapped[str] = mapped_column(Text)
    authority: Mapped[str] = mapped_column(Text)
    #: sealed
    private_key: Mapped[bytes]
    expires: Mapped[datetime]
    account: Mapped[Account] = relationship()
    network: Mapped[Network] = relationship()
    public_ip: Mapped[PublicIp] = relationship()


class VpnUser(Entity):
    """Somebody who may connect to all remote access VPNs of an account."""

    __tablename__ = "vpn_user"
    account_id: Mapped[str] = mapped_column(ForeignKey("account.id"))
    name: Mapped[str] = mapped_column(String(64))
    #: sealed
    password: Mapped[bytes]
    #: "Add", "Active"; "Revoke" on its way out, when it is no longer part of the desired state
    state: Mapped[str] = mapped_column(String(16), default="Add")
    account: Mapped[Account] = relationship()
    __table_args__ = (Unique("account_id", "name"),)
