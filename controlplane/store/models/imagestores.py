"""Secondary storage: image stores, what is in them, and what system VMs are to do there."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, ForeignKey, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from controlplane.store.models.base import Base, Entity


class ImageStore(Entity):
    """Where templates, ISOs, uploaded volumes and backups of snapshots are kept."""

    __tablename__ = "image_store"
    name: Mapped[str] = mapped_column(String(255))
    #: None: a region's, for all zones (object stores)
    zone_id: Mapped[str | None] = mapped_column(ForeignKey("zone.id"))
    #: "Local", "NFS", "S3" or "Swift"
    provider: Mapped[str] = mapped_column(String(16))
    #: without any secret
    url: Mapped[str] = mapped_column(String(2048))
    #: what the provider needs beside the URL and the secret
    details: Mapped[dict[str, Any]] = mapped_column(default=dict)
    #: sealed secret key
    secret: Mapped[bytes | None]
    #: nothing new is put there
    read_only: Mapped[bool] = mapped_column(default=False)
    #: as an SSVM found it last; None: not yet. Bytes; None where the store does not tell
    healthy: Mapped[bool | None]
    detail: Mapped[str | None] = mapped_column(Text)
    total: Mapped[int | None] = mapped_column(BigInteger)
    free: Mapped[int | None] = mapped_column(BigInteger)
    removed: Mapped[datetime | None]


class StoredImage(Entity):
    """One zone's copy of a template, ISO, volume or snapshot in an image store."""

    __tablename__ = "stored_image"
    #: "Template" (ISOs too), "Volume" or "Snapshot", and its id
    owner_type: Mapped[str] = mapped_column(String(16))
    owner_id: Mapped[str] = mapped_column(String(36), index=True)
    zone_id: Mapped[str] = mapped_column(ForeignKey("zone.id"))
    store_id: Mapped[str] = mapped_column(ForeignKey("image_store.id"))
    path: Mapped[str] = mapped_column(String(512))
    #: "Creating", "Ready", "Failed"
    state: Mapped[str] = mapped_column(String(16), default="Creating")
    #: of an SSVM's document (``ssvm.services.storage.model.jobs.Format``)
    format: Mapped[str] = mapped_column(String(8))
    physical_size: Mapped[int | None] = mapped_column(BigInteger)
    virtual_size: Mapped[int | None] = mapped_column(BigInteger)
    #: ``sha256:<hexadecimal>`` and the like: of the file as it came, and of the object as it is kept
    checksum: Mapped[str | None] = mapped_column(String(140))
    object_checksum: Mapped[str | None] = mapped_column(String(140))
    #: why it failed
    error: Mapped[str | None] = mapped_column(Text)
    removed: Mapped[datetime | None]


class StorageJob(Entity):
    """Something that an SSVM of a zone is to do in a store (``ssvm.services.storage.model.jobs``), and how it goes."""

    __tablename__ = "storage_job"
    zone_id: Mapped[str] = mapped_column(ForeignKey("zone.id"))
    #: who does it; None until one has room
    appliance_id: Mapped[str | None] = mapped_column(ForeignKey("appliance.id"), index=True)
    #: "download", "upload", "copy", "convert" or "delete"
    kind: Mapped[str] = mapped_column(String(16))
    #: id of an image store, or ``imagestores.shares.EXCHANGE``
    store_id: Mapped[str] = mapped_column(String(64))
    path: Mapped[str] = mapped_column(String(512))
    #: the other fields of the document's job
    fields: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)
    attempt: Mapped[int] = mapped_column(default=1)
    #: whose handler is called when it ends (``imagestores.jobs.outcome``), and what it is about
    purpose: Mapped[str] = mapped_column(String(32))
    subject_id: Mapped[str] = mapped_column(String(36), index=True)
    #: as reported: "waiting", "running", "retrying", "done", "failed"; "cancelled" here
    state: Mapped[str] = mapped_column(String(16), default="waiting")
    phase: Mapped[str] = mapped_column(String(16), default="")
    received: Mapped[int] = mapped_column(BigInteger, default=0)
    total: Mapped[int | None] = mapped_column(BigInteger)
    percent: Mapped[int] = mapped_column(default=0)
    #: bytes a second
    rate: Mapped[int] = mapped_column(BigInteger, default=0)
    seconds_left: Mapped[int | None] = mapped_column(BigInteger)
    #: connections that were lost
    lost: Mapped[int] = mapped_column(default=0)
    detail: Mapped[str] = mapped_column(Text, default="")
    #: why it failed: for programs, and for people
    cause: Mapped[str | None] = mapped_column(String(32))
    message: Mapped[str | None] = mapped_column(Text)
    #: ``ssvm.services.storage.model.report.Result``
    result: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    ended: Mapped[datetime | None] = mapped_column(index=True)


class StorageLink(Entity):
    """Leave to read one object until a time: for whoever has the token, or for one other SSVM."""

    __tablename__ = "storage_link"
    zone_id: Mapped[str] = mapped_column(ForeignKey("zone.id"))
    appliance_id: Mapped[str] = mapped_column(ForeignKey("appliance.id"), index=True)
    store_id: Mapped[str] = mapped_column(String(64))
    path: Mapped[str] = mapped_column(String(512))
    #: what it is about, e.g. a template's id
    subject_id: Mapped[str] = mapped_column(String(36), index=True)
    #: SHA-256 in hexadecimal; the token itself is nowhere
    token_hash: Mapped[str | None] = mapped_column(String(64), unique=True)
    #: appliance id of the other SSVM
    peer: Mapped[str | None] = mapped_column(String(63))
    name: Mapped[str] = mapped_column(String(128), default="download")
    expires: Mapped[datetime] = mapped_column(index=True)


class PeerCertificate(Base):
    """What an SSVM shows to others (``pki.Authority.issue_peer``)."""

    __tablename__ = "peer_certificate"
    appliance_id: Mapped[str] = mapped_column(ForeignKey("appliance.id"), primary_key=True)
    certificate: Mapped[str] = mapped_column(Text)
    #: sealed PEM (PKCS#8)
    private_key: Mapped[bytes]
    expires: Mapped[datetime]


class TemplatePermission(Base):
    """An account that may use a private template or ISO of another one."""

    __tablename__ = "template_permission"
    template_id: Mapped[str] = mapped_column(ForeignKey("template.id"), primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("account.id"), primary_key=True)
