"""The network services there are: who provides them and what they can do (listSupportedNetworkServices)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from controlplane.network import stickiness

VIRTUAL_ROUTER = "VirtualRouter"
#: the host of each guest
SECURITY_GROUPS = "SecurityGroupProvider"


@dataclass(frozen=True)
class Capability:
    """A property of a service. An offering may choose a value where ``choices`` has more than one."""

    name: str
    value: str
    choices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Service:
    """A network service by its API name."""

    name: str
    capabilities: tuple[Capability, ...] = ()
    providers: tuple[str, ...] = (VIRTUAL_ROUTER,)


SERVICES: dict[str, Service] = {
    service.name: service
    for service in (
        Service("Dhcp", (Capability("DhcpAccrossMultipleSubnets", "true"),)),
        Service("Dns", (Capability("AllowDnsSuffixModification", "true"),)),
        Service(
            "SourceNat",
            (
                Capability("SupportedSourceNatTypes", "peraccount"),
                Capability("RedundantRouter", "false"),
            ),
        ),
        Service("StaticNat", (Capability("ElasticIp", "false"),)),
        Service("PortForwarding"),
        Service(
            "Firewall",
            (
                Capability("SupportedProtocols", "tcp,udp,icmp"),
                Capability("SupportedEgressProtocols", "tcp,udp,icmp,all"),
                Capability("SupportedTrafficDirection", "ingress,egress"),
                Capability("TrafficStatistics", "per public ip"),
                Capability("MultipleIps", "true"),
            ),
        ),
        Service(
            "Lb",
            (
                Capability("SupportedLbAlgorithms", "roundrobin,leastconn,source"),
                Capability("SupportedLBIsolation", "dedicated"),
                Capability("SupportedProtocols", "tcp,tcp-proxy,http,ssl"),
                Capability("SupportedStickinessMethods", stickiness.described()),
                Capability("HealthCheckPolicy", "true"),
                Capability("LbSchemes", "Public"),
            ),
        ),
        Service(
            "Vpn",
            (Capability("SupportedVpnTypes", "l2tp,ipsec"), Capability("VpnTypes", "remoteaccess,s2svpn")),
        ),
        Service("UserData"),
        Service("SecurityGroup", providers=(SECURITY_GROUPS,)),
    )
}

#: guest type of a network -> services that it can have: on a shared one guests are addressed directly
BY_GUEST_TYPE: dict[str, tuple[str, ...]] = {
    "Isolated": tuple(name for name in SERVICES if name != "SecurityGroup"),
    "Shared": ("Dhcp", "Dns", "UserData", "SecurityGroup"),
}


def entries(names: Collection[str]) -> dict[str, Any]:
    """What ``NetworkOffering.services`` holds for services with their default providers and capabilities."""
    return {
        name: {"providers": list(SERVICES[name].providers), "capabilities": default_capabilities(name)}
        for name in names
    }


def default_capabilities(service: str) -> dict[str, str]:
    """What an offering has of a service when it chooses nothing."""
    return {capability.name: capability.value for capability in SERVICES[service].capabilities}


def capabilities_of(service: str, offered: Mapping[str, str]) -> dict[str, str]:
    """What an offering has of a service: what it chose, and what is not to be chosen as it is now."""
    fixed = {one.name: one.value for one in SERVICES[service].capabilities if len(one.choices) < 2}
    return {**offered, **{name: fixed[name] for name in fixed.keys() & offered.keys()}}


#: a service needs those beside it
_NEEDS = {
    "StaticNat": ("SourceNat",),
    "PortForwarding": ("SourceNat",),
    "Firewall": ("SourceNat",),
    "Lb": ("SourceNat",),
    "Vpn": ("SourceNat",),
}


def check_dependencies(services: Collection[str]) -> None:
    """Raise ValueError, in words, when a service is offered without one that it needs."""
    for service in services:
        for needed in _NEEDS.get(service, ()):
            if needed not in services:
                raise ValueError(f"{service} needs {needed}")
