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
from controlplane.network.supported import capabilities_of
from controlplane.store.models import Network, NetworkOffering, PhysicalNetwork, Zone


class ProviderResponse(Response):
    """Who provides a service."""

    name: str = shown("name of the provider", ...)


class CapabilityResponse(Response):
    """One thing a service can do, or how."""

    name: str = shown("name of the capability", ...)
    value: str = shown("its value", ...)
    canchooseservicecapability: bool = shown("an offering may choose it", False)


class ServiceResponse(Response):
    """A network service."""

    name: str = shown("name of the service", ...)
    provider: list[ProviderResponse] = shown("who provides it", [])
    capability: list[CapabilityResponse] = shown("what it can do", [])


class NetworkResponse(OwnedResponse):
    """A guest network."""

    id: str = shown("id of the network", ...)
    name: str = shown("name of the network", ...)
    displaytext: str = shown("description of the network", ...)
    created: datetime = shown("when it was created", ...)
    state: str = shown("Allocated, Implementing, Implemented, Shutdown or Destroy", ...)
    type: str = shown("Isolated or Shared", ...)
    acltype: str = shown("who may use it: Account or Domain", "Account")
    subdomainaccess: bool | None = shown("accounts of the domains below may use it too, where it is for a domain")
    traffictype: str = shown("kind of traffic", "Guest")
    broadcastdomaintype: str = shown("how it is told apart on the wire", ...)
    broadcasturi: str | None = shown("what it is on the wire, for root administrators")
    vlan: str | None = shown("its VLAN or VXLAN number, for root administrators")
    zoneid: str = shown("id of its zone", ...)
    zonename: str = shown("name of its zone", ...)
    physicalnetworkid: str = shown("id of its physical network", ...)
    networkofferingid: str = shown("id of its offering", ...)
    networkofferingname: str = shown("name of its offering", ...)
    networkofferingdisplaytext: str = shown("description of its offering", ...)
    networkofferingavailability: str = shown("Required or Optional", ...)
    networkofferingconservemode: bool = shown("one public address may have several kinds of rules", True)
    cidr: str | None = shown("its addresses; of a shared network, those of its oldest range")
    gateway: str | None = shown("address of its router, or of a shared network's gateway")
    netmask: str | None = shown("its netmask")
    startip: str | None = shown("first address that guests get, where it is restricted")
    endip: str | None = shown("last address that guests get, where it is restricted")
    networkdomain: str = shown("DNS domain of its guests", ...)
    dns1: str = shown("the zone's first resolver", ...)
    dns2: str | None = shown("the zone's second resolver")
    privatemtu: int | None = shown("MTU, where it is set")
    related: str = shown("id of the network it is an instance of", ...)
    issystem: bool = shown("it is the system's own", False)
    isdefault: bool = shown("it is the default network of its zone", False)
    ispersistent: bool = shown("it has its router without any guest", False)
    canusefordeploy: bool = shown("VMs can be deployed on it", True)
    restartrequired: bool = shown("it needs a restart for its offering to take effect", False)
    specifyipranges: bool = shown("an administrator gives its address ranges", False)
    displaynetwork: bool = shown("it is shown to its owner", True)
    redundantrouter: bool = shown("it has a pair of routers", False)
    egressdefaultpolicy: bool = shown("guests may send anything unless a rule denies it", False)
    strechedl2subnet: bool = shown("it spans several zones", False)
    service: list[ServiceResponse] = shown("its services", [])
    tags: list[TagResponse] = shown("its tags", [])


def show_services(services: dict[str, Any]) -> list[ServiceResponse]:
    """A network offering's ``services`` column."""
    return [
        ServiceResponse(
            name=name,
            provider=[ProviderResponse(name=provider) for provider in service.get("providers", [])],
            capability=[
                CapabilityResponse(name=capability, value=_text(value))
                for capability, value in sorted(capabilities_of(name, service.get("capabilities", {})).items())
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
        shared = offering.guest_ip_type == "Shared"
        if for_root and (shared or network.vni is not None):
            answer.vlan = str(network.vni) if network.vni is not None else "untagged"
            answer.broadcasturi = f"{'vlan' if shared else answer.broadcastdomaintype.lower()}://{answer.vlan}"
        answers.append(answer)
    return answers


def _owner(network: Network) -> dict[str, str]:
    """The account it belongs to; a network that is for a domain belongs to none in particular."""
    if network.domain is None:
        return owned_by(network.account)
    return {"domainid": network.domain.id, "domain": network.domain.name, "domainpath": network.domain.path}


def _show_network(session: Session, network: Network, offering: NetworkOffering, zone: Zone) -> NetworkResponse:
    shared = offering.guest_ip_type == "Shared"
    methods = session.get_one(PhysicalNetwork, network.physical_network_id).isolation_methods
    return NetworkResponse(
        **_owner(network),
        id=network.id,
        name=network.name,
        displaytext=network.display_text,
        created=network.created,
        state=network.state,
        type=offering.guest_ip_type,
        acltype=network.acl_type,
        subdomainaccess=network.subdomain_access if network.domain is not None else None,
        broadcastdomaintype="Vxlan" if not shared and "VXLAN" in (method.upper() for method in methods) else "Vlan",
        zoneid=zone.id,
        zonename=zone.name,
        physicalnetworkid=network.physical_network_id,
        networkofferingid=offering.id,
        networkofferingname=offering.name,
        networkofferingdisplaytext=offering.display_text,
        networkofferingavailability=offering.availability,
        networkofferingconservemode=offering.conserve_mode,
        cidr=network.cidr or None,
        gateway=network.gateway or None,
        netmask=str(IPv4Network(network.cidr).netmask) if network.cidr else None,
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
