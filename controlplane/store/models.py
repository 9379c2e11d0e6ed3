"""The control plane's tables. Ids are UUID strings; times are UTC. Names follow the API's terms."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import JSON, DateTime, ForeignKey, Index, Integer, LargeBinary, String, Text, TypeDecorator, text
from sqlalchemy import UniqueConstraint as Unique
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship


class UtcDateTime(TypeDecorator[datetime]):
    """Aware UTC datetimes on every database; SQLite would drop the zone."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return value.replace(tzinfo=UTC) if value is not None and value.tzinfo is None else value


def new_id() -> str:
    return str(uuid.uuid4())


def now() -> datetime:
    return datetime.now(UTC)


class Base(DeclarativeBase):
    type_annotation_map = {dict[str, Any]: JSON, list[str]: JSON, datetime: UtcDateTime, bytes: LargeBinary}


class Entity(Base):
    """What every resource has."""

    __abstract__ = True
    id: Mapped[str] = mapped_column(String(36), primary_key=True, default=new_id)
    created: Mapped[datetime] = mapped_column(default=now)


def _unique_while_there(name: str, *columns: str) -> Index:
    """Unique among rows that are not removed, so that a name can be used again."""
    there = text("removed IS NULL")
    return Index(name, *columns, unique=True, sqlite_where=there, postgresql_where=there)


# --- who ---------------------------------------------------------------------------------------------------


class Domain(Entity):
    __tablename__ = "domain"
    name: Mapped[str] = mapped_column(String(255))
    #: ``ROOT/x/y``
    path: Mapped[str] = mapped_column(String(1024))
    parent_id: Mapped[str | None] = mapped_column(ForeignKey("domain.id"))
    removed: Mapped[datetime | None]
    __table_args__ = (_unique_while_there("uq_domain_path", "path"),)


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
    __table_args__ = (_unique_while_there("uq_account_name", "domain_id", "name"),)


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


class Configuration(Base):
    """Values that differ from the defaults in controlplane/configuration.py. Scope "" is global."""

    __tablename__ = "configuration"
    name: Mapped[str] = mapped_column(String(128), primary_key=True)
    scope: Mapped[str] = mapped_column(String(16), primary_key=True, default="")
    scope_id: Mapped[str] = mapped_column(String(36), primary_key=True, default="")
    value: Mapped[str] = mapped_column(Text)


# --- where -------------------------------------------------------------------------------------------------


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
    memory_bytes: Mapped[int] = mapped_column(default=0)
    cluster: Mapped[Cluster] = relationship()


class PhysicalNetwork(Entity):
    __tablename__ = "physical_network"
    zone_id: Mapped[str] = mapped_column(ForeignKey("zone.id"))
    name: Mapped[str] = mapped_column(String(255))
    state: Mapped[str] = mapped_column(String(16), default="Enabled")
    vlan: Mapped[str | None]
    isolation_methods: Mapped[list[str]] = mapped_column(default=list)
    tags: Mapped[list[str]] = mapped_column(default=list)


class VlanIpRange(Entity):
    """A range of public addresses. All ranges with one vlan share a layer-2 segment."""

    __tablename__ = "vlan_ip_range"
    zone_id: Mapped[str] = mapped_column(ForeignKey("zone.id"))
    physical_network_id: Mapped[str] = mapped_column(ForeignKey("physical_network.id"))
    vlan: Mapped[str] = mapped_column(String(64), default="vlan://untagged")
    gateway: Mapped[str]
    netmask: Mapped[str]
    start_ip: Mapped[str]
    end_ip: Mapped[str]
    #: dedicated to one account when set
    account_id: Mapped[str | None] = mapped_column(ForeignKey("account.id"))


# --- offerings and templates ---------------------------------------------------------------------------------


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
    removed: Mapped[datetime | None]


class OsType(Entity):
    __tablename__ = "os_type"
    category: Mapped[str] = mapped_column(String(64))
    description: Mapped[str] = mapped_column(String(255))


# --- networks, guests and rules ------------------------------------------------------------------------------


class Network(Entity):
    __tablename__ = "network"
    name: Mapped[str] = mapped_column(String(255))
    display_text: Mapped[str] = mapped_column(String(4096))
    zone_id: Mapped[str] = mapped_column(ForeignKey("zone.id"))
    account_id: Mapped[str] = mapped_column(ForeignKey("account.id"))
    network_offering_id: Mapped[str] = mapped_column(ForeignKey("network_offering.id"))
    physical_network_id: Mapped[str] = mapped_column(ForeignKey("physical_network.id"))
    cidr: Mapped[str] = mapped_column(String(18))
    gateway: Mapped[str]
    start_ip: Mapped[str | None]
    end_ip: Mapped[str | None]
    network_domain: Mapped[str] = mapped_column(String(190))
    #: "Allocated", "Implementing", "Implemented", "Shutdown", "Destroy"
    state: Mapped[str] = mapped_column(String(16), default="Allocated")
    restart_required: Mapped[bool] = mapped_column(default=False)
    mtu: Mapped[int | None]
    #: identity on the wire (VLAN or VXLAN id)
    vni: Mapped[int | None]
    #: when its last guest went, for the collector
    idle_since: Mapped[datetime | None]
    removed: Mapped[datetime | None]
    account: Mapped[Account] = relationship()
    zone: Mapped[Zone] = relationship()
    offering: Mapped[NetworkOffering] = relationship()


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
    vm: Mapped[Vm] = relationship(back_populates="nics")
    network: Mapped[Network] = relationship()
    __table_args__ = (Unique("network_id", "address"),)


class SshKeyPair(Entity):
    __tablename__ = "ssh_keypair"
    account_id: Mapped[str] = mapped_column(ForeignKey("account.id"))
    name: Mapped[str] = mapped_column(String(255))
    fingerprint: Mapped[str] = mapped_column(String(64))
    public_key: Mapped[str] = mapped_column(Text)
    __table_args__ = (Unique("account_id", "name"),)


class PublicIp(Entity):
    """An allocated public address; free ones have no row, so an address cannot be given twice."""

    __tablename__ = "public_ip"
    address: Mapped[str] = mapped_column(String(15))
    vlan_ip_range_id: Mapped[str] = mapped_column(ForeignKey("vlan_ip_range.id"))
    zone_id: Mapped[str] = mapped_column(ForeignKey("zone.id"))
    account_id: Mapped[str] = mapped_column(ForeignKey("account.id"))
    network_id: Mapped[str | None] = mapped_column(ForeignKey("network.id"), index=True)
    #: "Allocating", "Allocated", "Releasing"
    state: Mapped[str] = mapped_column(String(16), default="Allocated")
    is_source_nat: Mapped[bool] = mapped_column(default=False)
    #: static NAT to this NIC when set
    static_nat_nic_id: Mapped[str | None] = mapped_column(ForeignKey("nic.id"))
    #: set by the system (a VM deployed with an offering that asks for it)
    is_system: Mapped[bool] = mapped_column(default=False)
    network: Mapped[Network | None] = relationship()
    range: Mapped[VlanIpRange] = relationship()
    __table_args__ = (Unique("zone_id", "address"),)


class PortForwardingRule(Entity):
    __tablename__ = "port_forwarding_rule"
    network_id: Mapped[str] = mapped_column(ForeignKey("network.id"))
    public_ip_id: Mapped[str] = mapped_column(ForeignKey("public_ip.id"))
    nic_id: Mapped[str] = mapped_column(ForeignKey("nic.id"), index=True)
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
    """A guest that a rule sends connections to."""

    __tablename__ = "load_balancer_member"
    rule_id: Mapped[str] = mapped_column(ForeignKey("load_balancer_rule.id", ondelete="CASCADE"))
    nic_id: Mapped[str] = mapped_column(ForeignKey("nic.id"), index=True)
    #: "Add", "Active", "Revoke"
    state: Mapped[str] = mapped_column(String(16), default="Add")
    nic: Mapped[Nic] = relationship()
    __table_args__ = (Unique("rule_id", "nic_id"),)


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


class Tag(Entity):
    """Resource tags (createTags): ``resource_type`` as the API names it, e.g. ``UserVm``."""

    __tablename__ = "tag"
    resource_type: Mapped[str] = mapped_column(String(32))
    resource_id: Mapped[str] = mapped_column(String(36))
    account_id: Mapped[str] = mapped_column(ForeignKey("account.id"))
    key: Mapped[str] = mapped_column(String(255))
    value: Mapped[str] = mapped_column(String(255))
    __table_args__ = (Unique("resource_type", "resource_id", "key"),)


# --- appliances, jobs, events --------------------------------------------------------------------------------


class Appliance(Entity):
    """A system VM. Work is left to do while ``observed_generation < desired_generation``."""

    __tablename__ = "appliance"
    #: "router", "ssvm", "consoleproxy"
    role: Mapped[str] = mapped_column(String(16))
    name: Mapped[str] = mapped_column(String(63), unique=True)
    zone_id: Mapped[str] = mapped_column(ForeignKey("zone.id"))
    account_id: Mapped[str | None] = mapped_column(ForeignKey("account.id"))
    host_id: Mapped[str | None] = mapped_column(ForeignKey("host.id"))
    #: the network a router serves; tiers of a VPC will point to their router through the VPC
    network_id: Mapped[str | None] = mapped_column(ForeignKey("network.id"), index=True)
    service_offering_id: Mapped[str | None] = mapped_column(ForeignKey("service_offering.id"))
    #: "Starting", "Running", "Stopping", "Stopped", "Destroyed", "Error"
    state: Mapped[str] = mapped_column(String(16), default="Starting")
    #: what an operator or a network wants: "Running" or "Stopped"
    desired_state: Mapped[str] = mapped_column(String(16), default="Running")
    control_address: Mapped[str] = mapped_column(String(15), unique=True)
    #: [{"name", "mac", "role", "segment", "network"}], in the order the appliance sees them
    nics: Mapped[list[dict[str, Any]]] = mapped_column(JSON, default=list)
    desired_generation: Mapped[int] = mapped_column(default=0)
    observed_generation: Mapped[int] = mapped_column(default=0)
    #: newest error of a push, for the job and for listRouters
    last_error: Mapped[str | None] = mapped_column(Text)
    healthy: Mapped[bool | None]
    health: Mapped[dict[str, Any]] = mapped_column(default=dict)
    #: number of the newest repair that was made an event
    repairs_seen: Mapped[int] = mapped_column(default=0)
    version: Mapped[str | None]
    redundant_state: Mapped[str] = mapped_column(String(16), default="UNKNOWN")
    #: what the load balancer reported last: rule id -> "address:port" -> "Up" or "Down"
    balanced: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    removed: Mapped[datetime | None]


class AsyncJob(Entity):
    """An API job. It ends when its workflow ends it, or when its appliance has reached its generation."""

    __tablename__ = "async_job"
    command: Mapped[str] = mapped_column(String(64))
    user_id: Mapped[str] = mapped_column(ForeignKey("user.id"))
    account_id: Mapped[str] = mapped_column(ForeignKey("account.id"))
    instance_type: Mapped[str | None] = mapped_column(String(32))
    instance_id: Mapped[str | None] = mapped_column(String(36))
    #: 0 pending, 1 succeeded, 2 failed
    status: Mapped[int] = mapped_column(default=0, index=True)
    process_status: Mapped[int] = mapped_column(default=0)
    result_code: Mapped[int] = mapped_column(default=0)
    result: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    #: why it is not done yet, for people (e.g. "router r-5 does not answer, next try in 4 s")
    progress: Mapped[str | None] = mapped_column(Text)
    appliance_id: Mapped[str | None] = mapped_column(ForeignKey("appliance.id"), index=True)
    generation: Mapped[int | None]
    #: the workflow that ends the job: {"name", "arguments"}
    workflow: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    #: what to do in the transaction that ends the job well: {"name", "arguments"}, see controlplane/jobs
    completion: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    #: what is being done, for its events, e.g. "opening port 80 of 203.0.113.5"
    description: Mapped[str] = mapped_column(Text, default="")
    #: the event that was recorded when the job was made
    event_id: Mapped[str | None] = mapped_column(String(36))
    completed: Mapped[datetime | None]


class Event(Entity):
    __tablename__ = "event"
    type: Mapped[str] = mapped_column(String(64), index=True)
    #: "INFO", "WARN", "ERROR"
    level: Mapped[str] = mapped_column(String(8), default="INFO")
    #: "Created", "Scheduled", "Started", "Completed"
    state: Mapped[str] = mapped_column(String(16), default="Completed")
    description: Mapped[str] = mapped_column(String(1024))
    account_id: Mapped[str] = mapped_column(ForeignKey("account.id"))
    user_id: Mapped[str | None] = mapped_column(ForeignKey("user.id"))
    resource_type: Mapped[str | None] = mapped_column(String(32))
    resource_id: Mapped[str | None] = mapped_column(String(36))
    #: the event that began what this one continues
    start_event_id: Mapped[str | None] = mapped_column(String(36))
    archived: Mapped[bool] = mapped_column(default=False)
    __table_args__ = (Index("ix_event_created", "created"),)
