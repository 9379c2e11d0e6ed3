"""Who: domains, accounts, users, their sessions and key pairs, settings and tags."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ForeignKey, Integer, String, Text
from sqlalchemy import UniqueConstraint as Unique
from sqlalchemy.orm import Mapped, mapped_column, relationship

from controlplane.store.models.base import Base, Entity, unique_while_there


class Domain(Entity):
    __tablename__ = "domain"
    name: Mapped[str] = mapped_column(String(255))
    #: ``ROOT/x/y``
    path: Mapped[str] = mapped_column(String(1024))
    parent_id: Mapped[str | None] = mapped_column(ForeignKey("domain.id"))
    #: DNS domain of the networks of its accounts, and of those of the domains below
    network_domain: Mapped[str | None] = mapped_column(String(190))
    removed: Mapped[datetime | None]
    __table_args__ = (unique_while_there("uq_domain_path", "path"),)


class Account(Entity):
    __tablename__ = "account"
    name: Mapped[str] = mapped_column(String(255))
    domain_id: Mapped[str] = mapped_column(ForeignKey("domain.id"))
    #: 0 user, 1 root administrator, 2 domain administrator
    type: Mapped[int] = mapped_column(Integer, default=0)
    state: Mapped[str] = mapped_column(String(16), default="enabled")
    network_domain: Mapped[str | None] = mapped_column(String(190))
    removed: Mapped[datetime | None]
    domain: Mapped[Domain] = relationship()
    __table_args__ = (unique_while_there("uq_account_name", "domain_id", "name"),)


class User(Entity):
    __tablename__ = "user"
    account_id: Mapped[str] = mapped_column(ForeignKey("account.id"))
    username: Mapped[str] = mapped_column(String(255))
    #: scrypt, see controlplane/api/passwords
    password_hash: Mapped[str] = mapped_column(String(255), default="")
    firstname: Mapped[str] = mapped_column(String(255), default="")
    lastname: Mapped[str] = mapped_column(String(255), default="")
    email: Mapped[str] = mapped_column(String(255), default="")
    timezone: Mapped[str] = mapped_column(String(64), default="UTC")
    state: Mapped[str] = mapped_column(String(16), default="enabled")
    api_key: Mapped[str | None] = mapped_column(String(128), unique=True)
    #: sealed: HMAC needs the key itself, so it is encrypted with the control plane's root-only key file
    secret_key: Mapped[bytes | None]
    removed: Mapped[datetime | None]
    account: Mapped[Account] = relationship()


class Session(Base):
    """A login session; only the hashes of its two tokens are kept."""

    __tablename__ = "session"
    cookie_hash: Mapped[str] = mapped_column(String(64), primary_key=True)
    key_hash: Mapped[str] = mapped_column(String(64))
    user_id: Mapped[str] = mapped_column(ForeignKey("user.id", ondelete="CASCADE"))
    expires: Mapped[datetime]


class SshKeyPair(Entity):
    __tablename__ = "ssh_keypair"
    account_id: Mapped[str] = mapped_column(ForeignKey("account.id"))
    name: Mapped[str] = mapped_column(String(255))
    fingerprint: Mapped[str] = mapped_column(String(64))
    public_key: Mapped[str] = mapped_column(Text)
    __table_args__ = (Unique("account_id", "name"),)


class Configuration(Base):
    """Values that differ from the defaults in controlplane/configuration.py. Scope "" is global."""

    __tablename__ = "configuration"
    name: Mapped[str] = mapped_column(String(128), primary_key=True)
    scope: Mapped[str] = mapped_column(String(16), primary_key=True, default="")
    scope_id: Mapped[str] = mapped_column(String(36), primary_key=True, default="")
    value: Mapped[str] = mapped_column(Text)


class Tag(Entity):
    """Resource tags (createTags): ``resource_type`` as the API names it, e.g. ``UserVm``."""

    __tablename__ = "tag"
    resource_type: Mapped[str] = mapped_column(String(32))
    resource_id: Mapped[str] = mapped_column(String(36))
    account_id: Mapped[str] = mapped_column(ForeignKey("account.id"))
    key: Mapped[str] = mapped_column(String(255))
    value: Mapped[str] = mapped_column(String(255))
    __table_args__ = (Unique("resource_type", "resource_id", "key"),)
