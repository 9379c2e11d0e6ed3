"""The types of usage, with the numbers and descriptions of the CloudStack API (listUsageTypes)."""

from __future__ import annotations

from enum import IntEnum


class UsageType(IntEnum):
    """What a usage record is of."""

    RUNNING_VM = 1
    ALLOCATED_VM = 2
    IP_ADDRESS = 3
    NETWORK_BYTES_SENT = 4
    NETWORK_BYTES_RECEIVED = 5
    VOLUME = 6
    TEMPLATE = 7
    ISO = 8
    SNAPSHOT = 9
    SECURITY_GROUP = 10
    LOAD_BALANCER_POLICY = 11
    PORT_FORWARDING_RULE = 12
    NETWORK_OFFERING = 13
    VPN_USERS = 14

    @property
    def description(self) -> str:
        return DESCRIPTIONS[self]

    @property
    def in_bytes(self) -> bool:
        """Bytes rather than hours."""
        return self in (UsageType.NETWORK_BYTES_SENT, UsageType.NETWORK_BYTES_RECEIVED)


DESCRIPTIONS = {
    UsageType.RUNNING_VM: "Running Vm Usage",
    UsageType.ALLOCATED_VM: "Allocated Vm Usage",
    UsageType.IP_ADDRESS: "IP Address Usage",
    UsageType.NETWORK_BYTES_SENT: "Network Usage (Bytes Sent)",
    UsageType.NETWORK_BYTES_RECEIVED: "Network Usage (Bytes Received)",
    UsageType.VOLUME: "Volume Usage",
    UsageType.TEMPLATE: "Template Usage",
    UsageType.ISO: "ISO Usage",
    UsageType.SNAPSHOT: "Snapshot Usage",
    UsageType.SECURITY_GROUP: "Security Group Usage",
    UsageType.LOAD_BALANCER_POLICY: "Load Balancer Usage",
    UsageType.PORT_FORWARDING_RULE: "Port Forwarding Usage",
    UsageType.NETWORK_OFFERING: "Network Offering Usage",
    UsageType.VPN_USERS: "VPN users usage",
}
