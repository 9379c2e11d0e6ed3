"""Where disks are and what is in them: storage pools, volumes, snapshots and when snapshots are made."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, ForeignKey, Index, String, Text, false
from sqlalchemy import UniqueConstraint as Unique
from sqlalchemy.orm import Mapped, mapped_column, relationship

from controlplane.store.models.base import Entity, unique_while_there
from controlplane.store.models.compute import Vm
from controlplane.store.models.identity import Account
from controlplane.store.models.infrastructure import Zone
from controlplane.store.models.offerings import DiskOffering


class StoragePool(Entity):
    """A directory that every host of a zone has at the same path. ``is_default``: the hypervisor's own."""

    __tablename__ = "storage_pool"
    zone_id: Mapped[str] = mapped_column(ForeignKey("zone.id"))
    name: Mapped[str] = mapped_column(String(255))
    path: Mapped[str] = mapped_column(String(4096))
    is_default: Mapped[bool] = mapped_column(default=False)
    #: comma-joined
    tags: Mapped[str | None] = mapped_column(String(255))
    #: "Up", "PrepareForMaintenance", "Maintenance"
    state: Mapped[str] = mapped_column(String(32), default="Up")
    #: nothing new is put there
    enabled: Mapped[bool] = mapped_column(default=True)
    #: bytes of its file system, when it was looked at last
    total_bytes: Mapped[int] = mapped_column(BigInteger, default=0)
    used_bytes: Mapped[int] = mapped_column(BigInteger, default=0)
    #: ids of the VMs that maintenance stopped
    stopped: Mapped[list[str]] = mapped_column(default=list)
    removed: Mapped[datetime | None]
    zone: Mapped[Zone] = relationship()


class Volume(Entity):
    __tablename__ = "volume"
    name: Mapped[str] = mapped_column(String(255))
    account_id: Mapped[str] = mapped_column(ForeignKey("account.id"), index=True)
    zone_id: Mapped[str] = mapped_column(ForeignKey("zone.id"))
    #: None while it is nowhere
    pool_id: Mapped[str | None] = mapped_column(ForeignKey("storage_pool.id"), index=True)
    #: of its file in the pool
    path: Mapped[str] = mapped_column(String(255), default="")
    disk_offering_id: Mapped[str | None] = mapped_column(ForeignKey("disk_offering.id"))
    #: what a root volume was made of
    template_id: Mapped[str | None] = mapped_column(ForeignKey("template.id"))
    #: what it was made of; the snapshot may be gone
    snapshot_id: Mapped[str | None] = mapped_column(String(36))
    vm_id: Mapped[str | None] = mapped_column(ForeignKey("vm.id"), index=True)
    #: 0 is the root volume
    device_id: Mapped[int | None]
    attached: Mapped[datetime | None]
    #: "ROOT", "DATADISK"
    type: Mapped[str] = mapped_column(String(16), default="DATADISK")
    #: "Allocated", "Uploading", "Uploaded", "UploadError", "UploadAbandoned",
    #: "Creating", "Ready", "Resizing", "Migrating", "Reverting", "Destroy", "Expunging", "Expunged"
    state: Mapped[str] = mapped_column(String(16), default="Allocated")
    #: bytes; of a root volume 0 until it is there
    size: Mapped[int] = mapped_column(BigInteger, default=0)
    for_display: Mapped[bool] = mapped_column(default=True)
    #: its content came from outside and is in secondary storage until it is attached first
    uploaded: Mapped[bool] = mapped_column(default=False, server_default=false())
    #: since when nothing can have changed it; None while it may be written to
    idle_since: Mapped[datetime | None]
    #: since when it can be recovered no longer than ``expunge.delay``
    destroyed: Mapped[datetime | None]
    removed: Mapped[datetime | None]
    account: Mapped[Account] = relationship()
    zone: Mapped[Zone] = relationship()
    pool: Mapped[StoragePool | None] = relationship()
    disk_offering: Mapped[DiskOffering | None] = relationship()
    vm: Mapped[Vm | None] = relationship()
    __table_args__ = (unique_while_there("uq_volume_device", "vm_id", "device_id"),)


class SnapshotPolicy(Entity):
    """When snapshots of a volume are made, and how many are kept."""

    __tablename__ = "snapshot_policy"
    volume_id: Mapped[str] = mapped_column(ForeignKey("volume.id"))
    #: "HOURLY", "DAILY", "WEEKLY", "MONTHLY"
    interval: Mapped[str] = mapped_column(String(8))
    #: minute; minute:hour; minute:hour:day of the week (1 is Sunday) or of the month
    schedule: Mapped[str] = mapped_column(String(16))
    timezone: Mapped[str] = mapped_column(String(64))
    max_snaps: Mapped[int]
    for_display: Mapped[bool] = mapped_column(default=True)
    #: when the next one is due
    next_run: Mapped[datetime] = mapped_column(index=True)
    volume: Mapped[Volume] = relationship()
    __table_args__ = (Unique("volume_id", "interval"),)


class Snapshot(Entity):
    """What was in a volume at one moment; it outlives the volume."""

    __tablename__ = "snapshot"
    name: Mapped[str] = mapped_column(String(255))
    account_id: Mapped[str] = mapped_column(ForeignKey("account.id"), index=True)
    zone_id: Mapped[str] = mapped_column(ForeignKey("zone.id"))
    volume_id: Mapped[str] = mapped_column(ForeignKey("volume.id"))
    #: kind of the volume
    volume_type: Mapped[str] = mapped_column(String(16))
    #: the policy that it was made by, which may be gone
    policy_id: Mapped[str | None] = mapped_column(String(36), index=True)
    #: "MANUAL", or the interval of the policy
    kind: Mapped[str] = mapped_column(String(8), default="MANUAL")
    #: "Creating", "BackingUp", "BackedUp", "Destroying", "Error"
    state: Mapped[str] = mapped_column(String(16), default="Creating")
    #: the pool that it is in, and its file there; None: it is in secondary storage
    pool_id: Mapped[str | None] = mapped_column(ForeignKey("storage_pool.id"), index=True)
    path: Mapped[str] = mapped_column(String(255), default="")
    #: bytes of the disk, and of the file
    size: Mapped[int] = mapped_column(BigInteger, default=0)
    physical_size: Mapped[int] = mapped_column(BigInteger, default=0)
    #: why it is in Error, or not in secondary storage
    detail: Mapped[str | None] = mapped_column(Text)
    removed: Mapped[datetime | None]
    account: Mapped[Account] = relationship()
    zone: Mapped[Zone] = relationship()
    volume: Mapped[Volume] = relationship()
    pool: Mapped[StoragePool | None] = relationship()
    __table_args__ = (Index("ix_snapshot_volume", "volume_id", "kind"),)
