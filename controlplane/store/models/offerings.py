"""What can be asked for: offerings, templates and kinds of operating system."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, String, false, true
from sqlalchemy.orm import Mapped, mapped_column

from controlplane.store.models.base import Entity


class ServiceOffering(Entity):
    __tablename__ = "service_offering"
    name: Mapped[str] = mapped_column(String(255))
    display_text: Mapped[str] = mapped_column(String(4096))
    cpu_number: Mapped[int]
    cpu_speed: Mapped[int]
    memory: Mapped[int]
    #: Mbit/s; None: the setting, 0: unlimited
    network_rate: Mapped[int | None]
    #: for system VMs (domain router) rather than guests
    is_system: Mapped[bool] = mapped_column(default=False)
    system_vm_type: Mapped[str | None]
    is_default: Mapped[bool] = mapped_column(default=False)
    offer_ha: Mapped[bool] = mapped_column(default=False)
    tags: Mapped[str | None]
    host_tags: Mapped[str | None]
    removed: Mapped[datetime | None]


class DiskOffering(Entity):
    __tablename__ = "disk_offering"
    name: Mapped[str] = mapped_column(String(255))
    display_text: Mapped[str] = mapped_column(String(4096))
    #: GiB; 0 with is_customized
    disk_size: Mapped[int] = mapped_column(default=0)
    is_customized: Mapped[bool] = mapped_column(default=False)
    for_display: Mapped[bool] = mapped_column(default=True, server_default=true())
    tags: Mapped[str | None]
    removed: Mapped[datetime | None]


class NetworkOffering(Entity):
    __tablename__ = "network_offering"
    name: Mapped[str] = mapped_column(String(255), unique=True)
    display_text: Mapped[str] = mapped_column(String(4096))
    #: "Isolated", "Shared"
    guest_ip_type: Mapped[str] = mapped_column(String(16), default="Isolated")
    traffic_type: Mapped[str] = mapped_column(String(16), default="Guest")
    #: "Enabled", "Disabled", "Inactive"
    state: Mapped[str] = mapped_column(String(16), default="Enabled")
    #: "Required", "Optional"
    availability: Mapped[str] = mapped_column(String(16), default="Optional")
    is_default: Mapped[bool] = mapped_column(default=False)
    is_persistent: Mapped[bool] = mapped_column(default=False)
    egress_default_allow: Mapped[bool] = mapped_column(default=False)
    conserve_mode: Mapped[bool] = mapped_column(default=True)
    specify_vlan: Mapped[bool] = mapped_column(default=False)
    specify_ip_ranges: Mapped[bool] = mapped_column(default=False)
    for_vpc: Mapped[bool] = mapped_column(default=False)
    redundant_router: Mapped[bool] = mapped_column(default=False)
    #: Mbit/s; None: the setting
    network_rate: Mapped[int | None]
    service_offering_id: Mapped[str | None] = mapped_column(ForeignKey("service_offering.id"))
    #: service -> {"providers": [...], "capabilities": {...}}
    services: Mapped[dict[str, Any]] = mapped_column(default=dict)
    tags: Mapped[str | None]
    removed: Mapped[datetime | None]


class Template(Entity):
    __tablename__ = "template"
    name: Mapped[str] = mapped_column(String(255))
    display_text: Mapped[str] = mapped_column(String(4096))
    zone_id: Mapped[str | None] = mapped_column(ForeignKey("zone.id"))
    account_id: Mapped[str] = mapped_column(ForeignKey("account.id"))
    hypervisor: Mapped[str]
    format: Mapped[str] = mapped_column(String(16))
    os_type_id: Mapped[str | None] = mapped_column(ForeignKey("os_type.id"))
    #: what the hypervisor driver calls it (GuestSpec.template)
    image: Mapped[str]
    size: Mapped[int] = mapped_column(default=0)
    is_public: Mapped[bool] = mapped_column(default=True)
    is_featured: Mapped[bool] = mapped_column(default=False)
    password_enabled: Mapped[bool] = mapped_column(default=False)
    ssh_key_enabled: Mapped[bool] = mapped_column(default=False)
    #: "USER", "SYSTEM", "BUILTIN"
    type: Mapped[str] = mapped_column(String(16), default="USER")
    is_extractable: Mapped[bool] = mapped_column(default=False, server_default=false())
    #: of an ISO: a machine can start from it
    bootable: Mapped[bool] = mapped_column(default=True, server_default=true())
    is_dynamically_scalable: Mapped[bool] = mapped_column(default=False, server_default=false())
    #: where it came from, and what its owner said that it has: ``sha256:<hexadecimal>`` and the like
    url: Mapped[str | None] = mapped_column(String(2048))
    checksum: Mapped[str | None] = mapped_column(String(140))
    tag: Mapped[str | None] = mapped_column(String(255))
    details: Mapped[dict[str, Any]] = mapped_column(default=dict, server_default="{}")
    removed: Mapped[datetime | None]


class OsType(Entity):
    __tablename__ = "os_type"
    category: Mapped[str] = mapped_column(String(64))
    description: Mapped[str] = mapped_column(String(255))
