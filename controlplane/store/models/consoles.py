"""Consoles of guests, and the certificates that system VMs show to browsers."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, ForeignKey, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from controlplane.store.models.base import Base, Entity


class ConsoleSession(Entity):
    """Leave for one person to see one guest's screen; the row stays as the record of who watched what, and when."""

    __tablename__ = "console_session"
    vm_id: Mapped[str] = mapped_column(ForeignKey("vm.id"), index=True)
    #: who asked for it
    user_id: Mapped[str] = mapped_column(ForeignKey("user.id"))
    account_id: Mapped[str] = mapped_column(ForeignKey("account.id"))
    #: the login it was asked for in; it ends with that one. None: asked for with API keys
    login: Mapped[str | None] = mapped_column(String(64), index=True)
    #: the proxy that serves it, and the host that the guest was on
    appliance_id: Mapped[str | None] = mapped_column(ForeignKey("appliance.id"), index=True)
    host_id: Mapped[str | None] = mapped_column(ForeignKey("host.id"))
    #: SHA-256 in hexadecimal; the token itself is nowhere
    token_hash: Mapped[str] = mapped_column(String(64), unique=True)
    #: what the proxy connects to, fields of the document's VncTarget but for the password, which is sealed
    target: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    password: Mapped[bytes | None]
    #: fields of the document's Policy
    policy: Mapped[dict[str, Any]] = mapped_column(default=dict)
    #: an unused token is worth nothing from then on
    expires: Mapped[datetime]
    #: where it was asked for from, and where it was opened from
    creator_address: Mapped[str] = mapped_column(String(45), default="")
    client_address: Mapped[str | None] = mapped_column(String(45))
    #: "Pending" until a browser is there, "Open", "Closing" when it is taken away, "Ended"
    state: Mapped[str] = mapped_column(String(8), default="Pending", index=True)
    #: when a browser was there first, and when it was over
    acquired: Mapped[datetime | None]
    ended: Mapped[datetime | None]
    reason: Mapped[str | None] = mapped_column(String(255))
    #: to and from the browser
    bytes_sent: Mapped[int] = mapped_column(BigInteger, default=0)
    bytes_received: Mapped[int] = mapped_column(BigInteger, default=0)


class ApplianceCertificate(Base):
    """The certificate of our own authority that a system VM shows to browsers where no custom one fits."""

    __tablename__ = "appliance_certificate"
    appliance_id: Mapped[str] = mapped_column(ForeignKey("appliance.id"), primary_key=True)
    names: Mapped[list[str]] = mapped_column(default=list)
    certificate: Mapped[str] = mapped_column(Text)
    #: sealed PEM (PKCS#8)
    private_key: Mapped[bytes]
    expires: Mapped[datetime]


class CustomCertificate(Entity):
    """A certificate that an administrator uploaded for system VMs, or one of those between it and its root."""

    __tablename__ = "custom_certificate"
    #: the site's own has the name "" and a key
    name: Mapped[str] = mapped_column(String(255), unique=True, default="")
    #: place in the chain, the root's is 1; None: the site's own
    position: Mapped[int | None]
    domain_suffix: Mapped[str] = mapped_column(String(255))
    certificate: Mapped[str] = mapped_column(Text)
    #: sealed PEM (PKCS#8)
    private_key: Mapped[bytes | None]
