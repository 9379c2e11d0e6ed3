"""Port forwards and firewall rules."""

from __future__ import annotations

from sqlalchemy import ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column, relationship

from controlplane.store.models.base import Entity
from controlplane.store.models.compute import Nic
from controlplane.store.models.networks import PublicIp


class PortForwardingRule(Entity):
    __tablename__ = "port_forwarding_rule"
    network_id: Mapped[str] = mapped_column(ForeignKey("network.id"))
    public_ip_id: Mapped[str] = mapped_column(ForeignKey("public_ip.id"))
    nic_id: Mapped[str] = mapped_column(ForeignKey("nic.id"), index=True)
    #: secondary address of the NIC, None for its primary one
    guest_address: Mapped[str | None] = mapped_column(String(15))
    protocol: Mapped[str] = mapped_column(String(8))
    public_port: Mapped[int]
    public_end_port: Mapped[int]
    private_port: Mapped[int]
    private_end_port: Mapped[int]
    #: "Add", "Active", "Revoke"
    state: Mapped[str] = mapped_column(String(16), default="Add")
    public_ip: Mapped[PublicIp] = relationship()
    nic: Mapped[Nic] = relationship()
    __table_args__ = (
        Index("ix_port_forwarding_rule_network", "network_id"),
        Index("ix_port_forwarding_rule_ip_port", "public_ip_id", "protocol", "public_port"),
    )


class FirewallRule(Entity):
    """Ingress rules have a public address, egress rules none."""

    __tablename__ = "firewall_rule"
    network_id: Mapped[str] = mapped_column(ForeignKey("network.id"))
    public_ip_id: Mapped[str | None] = mapped_column(ForeignKey("public_ip.id"))
    #: "Ingress" or "Egress"
    traffic_type: Mapped[str] = mapped_column(String(8))
    protocol: Mapped[str] = mapped_column(String(8))
    start_port: Mapped[int | None]
    end_port: Mapped[int | None]
    icmp_type: Mapped[int | None]
    icmp_code: Mapped[int | None]
    source_cidrs: Mapped[list[str]] = mapped_column(default=list)
    destination_cidrs: Mapped[list[str]] = mapped_column(default=list)
    state: Mapped[str] = mapped_column(String(16), default="Add")
    #: the port-forwarding rule this one was opened for (openfirewall), removed with it
    port_forwarding_rule_id: Mapped[str | None] = mapped_column(
        ForeignKey("port_forwarding_rule.id", ondelete="CASCADE")
    )
    public_ip: Mapped[PublicIp | None] = relationship()
    __table_args__ = (
        # with end_port, so that the search for overlapping rules reads nothing but the index
        Index("ix_firewall_rule_network_port", "network_id", "traffic_type", "protocol", "start_port", "end_port"),
        Index("ix_firewall_rule_ip_port", "public_ip_id", "protocol", "start_port", "end_port"),
        Index("ix_firewall_rule_forward", "port_forwarding_rule_id"),
    )
