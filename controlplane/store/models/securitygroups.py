"""Security groups, their rules and members, and how far the hosts have followed."""

from __future__ import annotations

from sqlalchemy import ForeignKey, String, Text
from sqlalchemy import UniqueConstraint as Unique
from sqlalchemy.orm import Mapped, mapped_column, relationship

from controlplane.store.models.base import Base, Entity
from controlplane.store.models.identity import Account


class SecurityGroup(Entity):
    __tablename__ = "security_group"
    name: Mapped[str] = mapped_column(String(255))
    description: Mapped[str | None] = mapped_column(String(4096))
    account_id: Mapped[str] = mapped_column(ForeignKey("account.id"))
    account: Mapped[Account] = relationship()
    __table_args__ = (Unique("account_id", "name"),)


class SecurityGroupRule(Entity):
    """What members of a group receive (Ingress) or send (Egress); the other side is a block or a group."""

    __tablename__ = "security_group_rule"
    group_id: Mapped[str] = mapped_column(ForeignKey("security_group.id"), index=True)
    #: "Ingress" or "Egress"
    traffic_type: Mapped[str] = mapped_column(String(8))
    #: "tcp", "udp", "icmp", "all" or an IANA number
    protocol: Mapped[str] = mapped_column(String(8))
    #: null for all
    start_port: Mapped[int | None]
    end_port: Mapped[int | None]
    icmp_type: Mapped[int | None]
    icmp_code: Mapped[int | None]
    #: one of the two
    cidr: Mapped[str | None] = mapped_column(String(18))
    peer_id: Mapped[str | None] = mapped_column(ForeignKey("security_group.id"), index=True)
    group: Mapped[SecurityGroup] = relationship(foreign_keys=[group_id])
    peer: Mapped[SecurityGroup | None] = relationship(foreign_keys=[peer_id])


class SecurityGroupMember(Entity):
    """A VM in a group. It counts on those of its networks that have security groups."""

    __tablename__ = "security_group_member"
    vm_id: Mapped[str] = mapped_column(ForeignKey("vm.id"))
    group_id: Mapped[str] = mapped_column(ForeignKey("security_group.id"), index=True)
    __table_args__ = (Unique("vm_id", "group_id"),)


class PortPolicy(Base):
    """One row: the policy of all guests' ports. Work is left while ``observed_generation < desired_generation``."""

    __tablename__ = "port_policy"
    id: Mapped[str] = mapped_column(String(16), primary_key=True)
    desired_generation: Mapped[int] = mapped_column(default=0)
    observed_generation: Mapped[int] = mapped_column(default=0)
    #: why the hosts do not follow
    last_error: Mapped[str | None] = mapped_column(Text)
