"""Load balancer rules with what belongs to them."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ForeignKey, Index, String, Text
from sqlalchemy import UniqueConstraint as Unique
from sqlalchemy.orm import Mapped, mapped_column, relationship

from controlplane.store.models.base import Entity
from controlplane.store.models.compute import Nic
from controlplane.store.models.networks import Network, PublicIp


class LoadBalancer(Entity):
    """A load balancer rule."""

    __tablename__ = "load_balancer_rule"
    network_id: Mapped[str] = mapped_column(ForeignKey("network.id"), index=True)
    public_ip_id: Mapped[str] = mapped_column(ForeignKey("public_ip.id"))
    name: Mapped[str] = mapped_column(String(255))
    description: Mapped[str | None] = mapped_column(String(4096))
    #: "roundrobin", "leastconn", "source"
    algorithm: Mapped[str] = mapped_column(String(16))
    #: "tcp", "tcp-proxy", "http", "ssl"
    protocol: Mapped[str] = mapped_column(String(16))
    public_port: Mapped[int]
    private_port: Mapped[int]
    source_cidrs: Mapped[list[str]] = mapped_column(default=list)
    #: "Add", "Active", "Revoke"
    state: Mapped[str] = mapped_column(String(16), default="Add")
    #: the firewall rule that was opened for this one (openfirewall), removed with it
    firewall_rule_id: Mapped[str | None] = mapped_column(ForeignKey("firewall_rule.id", ondelete="SET NULL"))
    public_ip: Mapped[PublicIp] = relationship()
    network: Mapped[Network] = relationship()
    __table_args__ = (Index("ix_load_balancer_rule_ip_port", "public_ip_id", "public_port"),)


class LoadBalancerMember(Entity):
    """An address of a guest that a rule sends connections to."""

    __tablename__ = "load_balancer_member"
    rule_id: Mapped[str] = mapped_column(ForeignKey("load_balancer_rule.id", ondelete="CASCADE"))
    nic_id: Mapped[str] = mapped_column(ForeignKey("nic.id"), index=True)
    #: secondary address of the NIC, None for its primary one
    address: Mapped[str | None] = mapped_column(String(15))
    #: "Add", "Active", "Revoke"
    state: Mapped[str] = mapped_column(String(16), default="Add")
    nic: Mapped[Nic] = relationship()
    __table_args__ = (Unique("rule_id", "nic_id", "address"),)


class LoadBalancerPolicy(Entity):
    """How a rule keeps clients with their members, or looks after these; one of a kind for a rule."""

    __tablename__ = "load_balancer_policy"
    rule_id: Mapped[str] = mapped_column(ForeignKey("load_balancer_rule.id", ondelete="CASCADE"), index=True)
    #: "Stickiness", "HealthCheck"
    kind: Mapped[str] = mapped_column(String(16))
    #: of a stickiness policy
    name: Mapped[str | None] = mapped_column(String(255))
    method: Mapped[str | None] = mapped_column(String(16))
    description: Mapped[str | None] = mapped_column(String(4096))
    #: as they were given; of a health check, the fields of the router's model
    params: Mapped[dict[str, Any]] = mapped_column(default=dict)
    #: "Add", "Active", "Revoke"
    state: Mapped[str] = mapped_column(String(16), default="Add")
    rule: Mapped[LoadBalancer] = relationship()


class SslCertificate(Entity):
    """A certificate that load balancer rules can end TLS with."""

    __tablename__ = "ssl_certificate"
    account_id: Mapped[str] = mapped_column(ForeignKey("account.id"))
    name: Mapped[str] = mapped_column(String(255))
    #: PEM
    certificate: Mapped[str] = mapped_column(Text)
    chain: Mapped[str | None] = mapped_column(Text)
    #: PEM, sealed
    private_key: Mapped[bytes]
    #: SHA-256 of the certificate, hexadecimal pairs joined by ":"
    fingerprint: Mapped[str] = mapped_column(String(95))
    __table_args__ = (Unique("account_id", "name"),)


class LoadBalancerCertificate(Entity):
    """A certificate in use by a rule; the oldest one is for clients that name no host."""

    __tablename__ = "load_balancer_certificate"
    rule_id: Mapped[str] = mapped_column(ForeignKey("load_balancer_rule.id", ondelete="CASCADE"))
    certificate_id: Mapped[str] = mapped_column(ForeignKey("ssl_certificate.id"), index=True)
    #: "Add", "Active", "Revoke"
    state: Mapped[str] = mapped_column(String(16), default="Add")
    __table_args__ = (Unique("rule_id", "certificate_id"),)
