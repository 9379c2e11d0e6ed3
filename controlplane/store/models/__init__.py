"""The control plane's tables, one module a subject. Import them from here: together they are the whole schema."""

from controlplane.store.models.base import Base, Entity, UtcDateTime, new_id, now
from controlplane.store.models.compute import Nic, NicSecondaryIp, Vm
from controlplane.store.models.consoles import ApplianceCertificate, ConsoleSession, CustomCertificate
from controlplane.store.models.identity import Account, Configuration, Domain, Session, SshKeyPair, Tag, User
from controlplane.store.models.imagestores import (
    ImageStore,
    PeerCertificate,
    StorageJob,
    StorageLink,
    StoredImage,
    TemplatePermission,
)
from controlplane.store.models.infrastructure import (
    Cluster,
    Host,
    IpRange,
    PhysicalNetwork,
    Pod,
    StorageAddress,
    StorageIpRange,
    VlanIpRange,
    Zone,
)
from controlplane.store.models.loadbalancing import (
    LoadBalancer,
    LoadBalancerCertificate,
    LoadBalancerMember,
    LoadBalancerPolicy,
    SslCertificate,
)
from controlplane.store.models.networks import Network, NetworkPermission, PublicIp, RouterAddress
from controlplane.store.models.offerings import DiskOffering, NetworkOffering, OsType, ServiceOffering, Template
from controlplane.store.models.operations import Appliance, AsyncJob, Event
from controlplane.store.models.rules import FirewallRule, PortForwardingRule
from controlplane.store.models.securitygroups import (
    PortPolicy,
    SecurityGroup,
    SecurityGroupMember,
    SecurityGroupRule,
)
from controlplane.store.models.storage import Snapshot, SnapshotPolicy, StoragePool, Volume
from controlplane.store.models.usage import TrafficCounter, TrafficSample, UsageJob, UsageRecord, UsageSpan
from controlplane.store.models.vpn import RemoteAccessVpn, VpnConnection, VpnCustomerGateway, VpnGateway, VpnUser

__all__ = [
    "Account",
    "Appliance",
    "ApplianceCertificate",
    "AsyncJob",
    "Base",
    "Cluster",
    "Configuration",
    "ConsoleSession",
    "CustomCertificate",
    "DiskOffering",
    "Domain",
    "Entity",
    "Event",
    "FirewallRule",
    "Host",
    "ImageStore",
    "IpRange",
    "LoadBalancer",
    "LoadBalancerCertificate",
    "LoadBalancerMember",
    "LoadBalancerPolicy",
    "Network",
    "NetworkOffering",
    "NetworkPermission",
    "Nic",
    "NicSecondaryIp",
    "OsType",
    "PeerCertificate",
    "PhysicalNetwork",
    "Pod",
    "PortForwardingRule",
    "PortPolicy",
    "PublicIp",
    "RemoteAccessVpn",
    "RouterAddress",
    "SecurityGroup",
    "SecurityGroupMember",
    "SecurityGroupRule",
    "ServiceOffering",
    "Session",
    "Snapshot",
    "SnapshotPolicy",
    "SshKeyPair",
    "SslCertificate",
    "StorageAddress",
    "StorageIpRange",
    "StorageJob",
    "StorageLink",
    "StoragePool",
    "StoredImage",
    "Tag",
    "Template",
    "TemplatePermission",
    "TrafficCounter",
    "TrafficSample",
    "UsageJob",
    "UsageRecord",
    "UsageSpan",
    "User",
    "UtcDateTime",
    "VlanIpRange",
    "Vm",
    "Volume",
    "VpnConnection",
    "VpnCustomerGateway",
    "VpnGateway",
    "VpnUser",
    "Zone",
    "new_id",
    "now",
]
