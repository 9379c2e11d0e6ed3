"""Where: zones, pods, clusters, hosts and physical networks."""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, ForeignKey, String, UniqueConstraint, true
from sqlalchemy.orm import Mapped, mapped_column, relationship

from controlplane.store.models.base import Entity


class Zone(Entity):
    __tablename__ = "zone"
    name: Mapped[str] = mapped_column(String(255), unique=True)
    #: "Advanced" or "Basic"
    network_type: Mapped[str] = mapped_column(String(16), default="Advanced")
    dns1: Mapped[str]
    dns2: Mapped[str | None]
    internal_dns1: Mapped[str]
    internal_dns2: Mapped[str | None]
    guest_cidr: Mapped[str] = mapped_column(String(18), default="10.1.1.0/24")
    #: network domain of the zone's networks that set none
    domain: Mapped[str | None] = mapped_column(String(190))
    allocation_state: Mapped[str] = mapped_column(String(16), default="Enabled")
    #: its shared networks may have security groups
    security_groups: Mapped[bool] = mapped_column(default=False, server_default=true())


class Pod(Entity):
    __tablename__ = "pod"
    zone_id: Mapped[str] = mapped_column(ForeignKey("zone.id"))
    name: Mapped[str] = mapped_column(String(255))
    gateway: Mapped[str]
    netmask: Mapped[str]
    start_ip: Mapped[str]
    end_ip: Mapped[str]
    allocation_state: Mapped[str] = mapped_column(String(16), default="Enabled")


class Cluster(Entity):
    __tablename__ = "cluster"
    pod_id: Mapped[str] = mapped_column(ForeignKey("pod.id"))
    name: Mapped[str] = mapped_column(String(255))
    hypervisor: Mapped[str]
    allocation_state: Mapped[str] = mapped_column(String(16), default="Enabled")
    pod: Mapped[Pod] = relationship()


class Host(Entity):
    __tablename__ = "host"
    cluster_id: Mapped[str] = mapped_column(ForeignKey("cluster.id"))
    name: Mapped[str] = mapped_column(String(255))
    #: how the driver reaches it, e.g. ``namespace://local`` or ``qemu+tls://host/system``
    url: Mapped[str]
    state: Mapped[str] = mapped_column(String(16), default="Up")
    resource_state: Mapped[str] = mapped_column(String(32), default="Enabled")
    cpus: Mapped[int] = mapped_column(default=0)
    #: of one of its processors
    cpu_mhz: Mapped[int] = mapped_column(default=0)
    memory_bytes: Mapped[int] = mapped_column(default=0)
    #: whether instances take what they are promised; where they share it, capacity is no limit
    reserves: Mapped[bool] = mapped_column(default=False)
    #: percent of its processors' time and bytes of its memory, when it was asked last
    cpu_used: Mapped[float | None]
    memory_used: Mapped[int | None]
    cluster: Mapped[Cluster] = relationship()


class PhysicalNetwork(Entity):
    __tablename__ = "physical_network"
    zone_id: Mapped[str] = mapped_column(ForeignKey("zone.id"))
    name: Mapped[str] = mapped_column(String(255))
    state: Mapped[str] = mapped_column(String(16), default="Enabled")
    vlan: Mapped[str | None]
    isolation_methods: Mapped[list[str]] = mapped_column(default=list)
    tags: Mapped[list[str]] = mapped_column(default=list)
    #: traffic type ("Guest", "Public", "Management", "Storage") -> interface or bridge of the hosts that carries it
    labels: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)


class IpRange:
    """Columns of every range of addresses on a physical network."""

    vlan: Mapped[str] = mapped_column(String(64), default="vlan://untagged")
    gateway: Mapped[str]
    netmask: Mapped[str]
    start_ip: Mapped[str]
    end_ip: Mapped[str]


class VlanIpRange(IpRange, Entity):
    """A range of public addresses, or of a shared network. All ranges with one vlan share a layer-2 segment."""

    __tablename__ = "vlan_ip_range"
    zone_id: Mapped[str] = mapped_column(ForeignKey("zone.id"))
    physical_network_id: Mapped[str] = mapped_column(ForeignKey("physical_network.id"))
    #: dedicated to one account when set
    account_id: Mapped[str | None] = mapped_column(ForeignKey("account.id"))
    #: guests of this shared network get addresses of it; None for public ranges
    network_id: Mapped[str | None] = mapped_column(ForeignKey("network.id"), index=True)
    #: of a basic zone, whose guest ranges belong to pods
    pod_id: Mapped[str | None] = mapped_column(ForeignKey("pod.id"))


class StorageIpRange(IpRange, Entity):
    """A range of a pod's storage network, by which SSVMs reach image stores. Ranges with one vlan share a segment."""

    __tablename__ = "storage_ip_range"
    zone_id: Mapped[str] = mapped_column(ForeignKey("zone.id"))
    pod_id: Mapped[str] = mapped_column(ForeignKey("pod.id"))
    physical_network_id: Mapped[str] = mapped_column(ForeignKey("physical_network.id"))


class StorageAddress(Entity):
    """The address of one SSVM on the storage network."""

    __tablename__ = "storage_address"
    __table_args__ = (UniqueConstraint("storage_ip_range_id", "address"),)
    storage_ip_range_id: Mapped[str] = mapped_column(ForeignKey("storage_ip_range.id"))
    address: Mapped[str]
    appliance_id: Mapped[str] = mapped_column(ForeignKey("appliance.id"), unique=True)
