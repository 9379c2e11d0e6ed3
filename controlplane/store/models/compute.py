"""Guests and their NICs."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, String, Text
from sqlalchemy import UniqueConstraint as Unique
from sqlalchemy.orm import Mapped, mapped_column, relationship

from controlplane.store.models.base import Entity
from controlplane.store.models.identity import Account
from controlplane.store.models.networks import Network
from controlplane.store.models.offerings import ServiceOffering, Template


class Vm(Entity):
    __tablename__ = "vm"
    name: Mapped[str] = mapped_column(String(63))
    display_name: Mapped[str] = mapped_column(String(255))
    group: Mapped[str | None] = mapped_column(String(255))
    zone_id: Mapped[str] = mapped_column(ForeignKey("zone.id"))
    account_id: Mapped[str] = mapped_column(ForeignKey("account.id"))
    host_id: Mapped[str | None] = mapped_column(ForeignKey("host.id"))
    template_id: Mapped[str] = mapped_column(ForeignKey("template.id"))
    service_offering_id: Mapped[str] = mapped_column(ForeignKey("service_offering.id"))
    #: "Starting", "Running", "Stopping", "Stopped", "Destroyed", "Expunging", "Error"
    state: Mapped[str] = mapped_column(String(16), default="Stopped")
    #: base64 as given
    user_data: Mapped[str | None] = mapped_column(Text)
    ssh_keypair: Mapped[str | None] = mapped_column(String(255))
    #: key text, copied so that deleting the pair changes nothing for the guest
    public_key: Mapped[str | None] = mapped_column(Text)
    #: a password the guest has not fetched yet: id, and the text sealed; cleared when the router reports it fetched
    password_id: Mapped[str | None] = mapped_column(String(36))
    password: Mapped[bytes | None]
    ha_enable: Mapped[bool] = mapped_column(default=False)
    display_vm: Mapped[bool] = mapped_column(default=True)
    details: Mapped[dict[str, Any]] = mapped_column(default=dict)
    #: since when it can be recovered no longer than ``expunge.delay``
    destroyed: Mapped[datetime | None]
    removed: Mapped[datetime | None]
    account: Mapped[Account] = relationship()
    template: Mapped[Template] = relationship()
    service_offering: Mapped[ServiceOffering] = relationship()
    nics: Mapped[list[Nic]] = relationship(back_populates="vm", order_by="Nic.device_id")


class Nic(Entity):
    """A guest's NIC. The row is the address allocation: it exists as long as the VM has the address."""

    __tablename__ = "nic"
    vm_id: Mapped[str] = mapped_column(ForeignKey("vm.id"), index=True)
    network_id: Mapped[str] = mapped_column(ForeignKey("network.id"))
    device_id: Mapped[int]
    mac: Mapped[str] = mapped_column(String(17), unique=True)
    address: Mapped[str] = mapped_column(String(15))
    is_default: Mapped[bool] = mapped_column(default=False)
    #: Mbit/s that the hypervisor was told last; None while the NIC is not plugged in
    rate_mbit: Mapped[int | None]
    vm: Mapped[Vm] = relationship(back_populates="nics")
    network: Mapped[Network] = relationship()
    secondary: Mapped[list[NicSecondaryIp]] = relationship(
        order_by="(NicSecondaryIp.created, NicSecondaryIp.id)", cascade="all, delete-orphan"
    )
    __table_args__ = (Unique("network_id", "address"),)


class NicSecondaryIp(Entity):
    """A further address of a NIC. No DHCP server tells it: the guest configures it by itself."""

    __tablename__ = "nic_secondary_ip"
    nic_id: Mapped[str] = mapped_column(ForeignKey("nic.id"), index=True)
    network_id: Mapped[str] = mapped_column(ForeignKey("network.id"))
    address: Mapped[str] = mapped_column(String(15))
    __table_args__ = (Unique("network_id", "address"),)
