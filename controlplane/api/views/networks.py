"""Guest networks as the API shows them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from ipaddress import IPv4Network
from typing import Any

from sqlalchemy.orm import Session

from controlplane.api.command import Response, shown
from controlplane.api.listing import OwnedResponse, owned_by
from controlplane.api.tagging import TagResponse, tags_of
from controlplane.store.models import Network, NetworkOffering, PhysicalNetwork, Zone


class ProviderResponse(Response):
    """Who provides a service."""

    name: str = shown("the provider name", ...)


class CapabilityResponse(Response):
    """One thing a service can do, or how."""

    name: str = shown("the capability name", ...)
    value: str = shown("the capability value", ...)
    canchooseservicecapability: bool = shown("can this service capability value can be choosable", False)


class ServiceResponse(Response):
    """A network service."""

    name: str = shown("the service name", ...)
    provider: list[ProviderResponse] = shown("the service provider name", [])
    capability: list[CapabilityResponse] = shown("the list of capabilities", [])


class NetworkResponse(OwnedResponse):
    """A guest network."""

    id: str = shown("the id of the network", ...)
    name: str = shown("the name of the network", ...)
    displaytext: str = shown("the displaytext of the network", ...)
    created: datetime = shown("the date this network was created", ...)
    state: str = shown("state of the network", ...)
    type: str = shown("the type of the network", ...)
    acltype: str = shown("acl type - access type to the network", "Account")
    traffictype: str = shown("the traffic type of the network", "Guest")
    broadcastdomaintype: str = shown("Broadcast domain type of the network", ...)
    broadcasturi: str | None = shown("broadcast uri of the network. This parameter is visible to ROOT admins only")
    vlan: str | None = shown("The vlan of the network. This parameter is visible to ROOT admins only")
    zoneid: str = shown("zone id of the network", ...)
    zonename: str = shown("the name of the zone the network belongs to", ...)
    physicalnetworkid: str = shown("the physical network id", ...)
    networkofferingid: str = shown("network offering id the network is created from", ...)
    networkofferingname: str = shown("name of the network offering the network is created from", ...)
    networkofferingdisplaytext: str = shown("display text of the network offering the network is created from", ...)
    networkofferingavailability: str = shown("availability of the network offering the network is created from", ...)
    networkofferingconservemode: bool = shown("true if network offering is ip conserve mode enabled", True)
    cidr: str = shown("Cloudstack managed address space, all CloudStack managed VMs get IP address from CIDR", ...)
    gateway: str = shown("the network's gateway", ...)
    netmask: str = shown("the network's netmask", ...)
    startip: str | None = shown("first address that guests get, where it is restricted")
    endip: str | None = shown("last address that guests get, where it is restricted")
    networkdomain: str = shown("the network domain", ...)
    dns1: str = shown("the first IPv4 DNS for the network", ...)
    dns2: str | None = shown("the second IPv4 DNS for the network")
    privatemtu: int | None = shown("MTU configured on the network VR's private interfaces")
    related: str = shown("related to what other network configuration", ...)
    issystem: bool = shown("true if network is system, false otherwise", False)
    isdefault: bool = shown("true if network is default, false otherwise", False)
    ispersistent: bool = shown("list networks that are persistent", False)
    canusefordeploy: bool = shown("list networks available for vm deployment", True)
    restartrequired: bool = shown("true network requires restart", False)
    specifyipranges: bool = shown("true if network supports specifying ip ranges, false otherwise", False)
    displaynetwork: bool = shown("an optional field, whether to the display the network to the end user or not.", True)
    redundantrouter: bool = shown("If the network has redundant routers enabled", False)
    egressdefaultpolicy: bool = shown("true if the default egress policy is to allow", False)
    strechedl2subnet: bool = shown("true if network can span multiple zones", False)
    service: list[ServiceResponse] = shown("the list of services", [])
    tags: list[TagResponse] = shown("the list of resource tags associated with network", [])


def show_services(services: dict[str, Any]) -> list[ServiceResponse]:
    """A network offering's ``services`` column."""
    return [
        ServiceResponse(
            name=name,
            provider=[ProviderResponse(name=provider) for provider in service.get("providers", [])],
            capability=[
                CapabilityResponse(name=capability, value=_text(value))
                for capability, value in sorted(service.get("capabilities", {}).items())
            ],
        )
        for name, service in sorted(services.items())
    ]


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def show_networks(session: Session, networks: Sequence[Network], *, for_root: bool = False) -> list[NetworkResponse]:
    """Networks; ``for_root`` adds what they are on the wire."""
    tags = tags_of(session, "Network", [network.id for network in networks])
    services: dict[str, list[ServiceResponse]] = {}
    answers = []
    for network in networks:
        offering, zone = network.offering, network.zone
        if offering.id not in services:
            services[offering.id] = show_services(offering.services)
        answer = _show_network(session, network, offering, zone)
        answer.service = services[offering.id]
        answer.tags = tags.get(network.id, [])
        if for_root and network.vni is not None:
            answer.vlan = str(network.vni)
            answer.broadcasturi = f"{answer.broadcastdomaintype.lower()}://{network.vni}"
        answers.append(answer)
    return answers


def _show_network(session: Session, network: Network, offering: NetworkOffering, zone: Zone) -> NetworkResponse:
    methods = session.get_one(PhysicalNetwork, network.physical_network_id).isolation_methods
    return NetworkResponse(
        **owned_by(network.account),
        id=network.id,
        name=network.name,
        displaytext=network.display_text,
        created=network.created,
        state=network.state,
        type=offering.guest_ip_type,
        broadcastdomaintype="Vxlan" if "VXLAN" in (method.upper() for method in methods) else "Vlan",
        zoneid=zone.id,
        zonename=zone.name,
        physicalnetworkid=network.physical_network_id,
        networkofferingid=offering.id,
        networkofferingname=offering.name,
        networkofferingdisplaytext=offering.display_text,
        networkofferingavailability=offering.availability,
        networkofferingconservemode=offering.conserve_mode,
        cidr=network.cidr,
        gateway=network.gateway,
        netmask=str(IPv4Network(network.cidr).netmask),
        startip=network.start_ip,
        endip=network.end_ip,
        networkdomain=network.network_domain,
        dns1=zone.dns1,
        dns2=zone.dns2,
        privatemtu=network.mtu,
        related=network.id,
        ispersistent=offering.is_persistent,
        canusefordeploy=network.state != "Destroy",
        restartrequired=network.restart_required,
        specifyipranges=offering.specify_ip_ranges,
        redundantrouter=offering.redundant_router,
        egressdefaultpolicy=offering.egress_default_allow,
    )
