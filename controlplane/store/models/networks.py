"""Networks and their public addresses."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ForeignKey, String
from sqlalchemy import UniqueConstraint as Unique
from sqlalchemy.orm import Mapped, mapped_column, relationship

from controlplane.store.models.base import Entity
from controlplane.store.models.identity import Account, Domain
from controlplane.store.models.infrastructure import VlanIpRange, Zone
from controlplane.store.models.offerings import NetworkOffering


class Network(Entity):
    __tablename__ = "network"
    name: Mapped[str] = mapped_column(String(255))
    display_text: Mapped[str] = mapped_column(String(4096))
    zone_id: Mapped[str] = mapped_column(ForeignKey("zone.id"))
    account_id: Mapped[str] = mapped_column(ForeignKey("account.id"))
    network_offering_id: Mapped[str] = mapped_column(ForeignKey("network_offering.id"))
    physical_network_id: Mapped[str] = mapped_column(ForeignKey("physical_network.id"))
    cidr: Mapped[str] = mapped_column(String(18))
    gateway: Mapped[str]
    start_ip: Mapped[str | None]
    end_ip: Mapped[str | None]
    network_domain: Mapped[str] = mapped_column(String(190))
    #: somebody gave this network its domain; otherwise it was inherited (network/dnsdomains.py)
    own_domain: Mapped[bool] = mapped_column(default=True)
    #: who may use it: "Account", or "Domain": every account of ``domain_id``
    acl_type: Mapped[str] = mapped_column(String(8), default="Account")
    domain_id: Mapped[str | None] = mapped_column(ForeignKey("domain.id"))
    #: accounts of the domains below may use it too
    subdomain_access: Mapped[bool] = mapped_column(default=False)
    #: "Allocated", "Implementing", "Implemented", "Shutdown", "Destroy"
    state: Mapped[str] = mapped_column(String(16), default="Allocated")
    restart_required: Mapped[bool] = mapped_column(default=False)
    mtu: Mapped[int | None]
    #: identity on the wire (VLAN or VXLAN id)
    vni: Mapped[int | None]
    #: when its last guest went, for the collector
    idle_since: Mapped[datetime | None]
    removed: Mapped[datetime | None]
    account: Mapped[Account] = relationship()
    zone: Mapped[Zone] = relationship()
    offering: Mapped[NetworkOffering] = relationship()
    domain: Mapped[Domain | None] = relationship()
    #: of a shared network, the oldest first
    ranges: Mapped[list[VlanIpRange]] = relationship(order_by=(VlanIpRange.created, VlanIpRange.id), viewonly=True)


class RouterAddress(Entity):
    """The router's own address in one subnet of a shared network. It outlives routers, for guests know it by it."""

    __tablename__ = "router_address"
    network_id: Mapped[str] = mapped_column(ForeignKey("network.id"))
    vlan_ip_range_id: Mapped[str] = mapped_column(ForeignKey("vlan_ip_range.id"))
    address: Mapped[str] = mapped_column(String(15))
    __table_args__ = (Unique("network_id", "address"),)


class NetworkPermission(Entity):
    """An account that may use a network of another one."""

    __tablename__ = "network_permission"
    network_id: Mapped[str] = mapped_column(ForeignKey("network.id"))
    account_id: Mapped[str] = mapped_column(ForeignKey("account.id"))
    account: Mapped[Account] = relationship()
    __table_args__ = (Unique("network_id", "account_id"),)


class PublicIp(Entity):
    """An allocated public address; free ones have no row, so an address cannot be given twice."""

    __tablename__ = "public_ip"
    address: Mapped[str] = mapped_column(String(15))
    vlan_ip_range_id: Mapped[str] = mapped_column(ForeignKey("vlan_ip_range.id"))
    zone_id: Mapped[str] = mapped_column(ForeignKey("zone.id"))
    account_id: Mapped[str] = mapped_column(ForeignKey("account.id"))
    network_id: Mapped[str | None] = mapped_column(ForeignKey("network.id"), index=True)
    #: "Allocating", "Allocated", "Releasing"
    state: Mapped[str] = mapped_column(String(16), default="Allocated")
    is_source_nat: Mapped[bool] = mapped_column(default=False)
    #: static NAT to this NIC when set
    static_nat_nic_id: Mapped[str | None] = mapped_column(ForeignKey("nic.id"))
    #: secondary address of the NIC, None for its primary one
    static_nat_address: Mapped[str | None] = mapped_column(String(15))
    #: set by the system (a VM deployed with an offering that asks for it)
    is_system: Mapped[bool] = mapped_column(default=False)
    #: the system VM that has it; no foreign key, for SQLite would have to copy the table to add one
    appliance_id: Mapped[str | None] = mapped_column(String(36))
    network: Mapped[Network | None] = relationship()
    range: Mapped[VlanIpRange] = relationship()
    __table_args__ = (Unique("zone_id", "address"),)
