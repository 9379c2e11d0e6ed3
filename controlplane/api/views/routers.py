"""Virtual routers as the API shows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from ipaddress import IPv4Interface
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from controlplane.api.command import Response, shown
from controlplane.api.listing import OwnedResponse, owned_by
from controlplane.api.views.nics import NicResponse
from controlplane.store.models import (
    Account,
    Appliance,
    Cluster,
    Host,
    Network,
    Pod,
    PublicIp,
    ServiceOffering,
    VlanIpRange,
    Zone,
)

#: prefix of the control network, see the hypervisor drivers
_CONTROL_PREFIX = 16


class HealthCheckResponse(Response):
    """The newest probe of one service of a router."""

    checkname: str = shown("the name of the health check on the router", ...)
    checktype: str = shown("the type of the health check - basic or advanced", "basic")
    success: bool = shown("result of the health check", ...)
    lastupdated: datetime | None = shown("the date this VPC was created")
    details: str = shown("detailed response generated on running health check", "")


class RouterHealthResponse(Response):
    """All of a router's probes."""

    routerid: str = shown("the id of the router", ...)
    healthchecks: list[HealthCheckResponse] = shown("the id of the router", [])


class RouterResponse(OwnedResponse):
    """A virtual router."""

    id: str = shown("the id of the router", ...)
    name: str = shown("the name of the router", ...)
    role: str = shown("role of the domain router", "VIRTUAL_ROUTER")
    state: str = shown("the state of the router", ...)
    created: datetime = shown("the date and time the router was created", ...)
    zoneid: str = shown("the Zone ID for the router", ...)
    zonename: str = shown("the Zone name for the router", ...)
    podid: str | None = shown("the Pod ID for the router")
    podname: str | None = shown("the Pod name for the router")
    hostid: str | None = shown("the host ID for the router")
    hostname: str | None = shown("the hostname for the router")
    hypervisor: str | None = shown("the hypervisor on which the router runs")
    dns1: str = shown("the first DNS for the router", ...)
    dns2: str | None = shown("the second DNS for the router")
    gateway: str | None = shown("the gateway for the router")
    networkdomain: str | None = shown("the network domain for the router")
    guestnetworkid: str | None = shown("the ID of the corresponding guest network")
    guestnetworkname: str | None = shown("the name of the corresponding guest network")
    guestipaddress: str | None = shown("the guest IP address for the router")
    guestnetmask: str | None = shown("the guest netmask for the router")
    guestmacaddress: str | None = shown("the guest MAC address for the router")
    linklocalip: str = shown("the link local IP address for the router", ...)
    linklocalnetmask: str = shown("the link local netmask for the router", ...)
    linklocalmacaddress: str | None = shown("the link local MAC address for the router")
    publicip: str = shown("the public IP address for the router", "")
    publicnetmask: str | None = shown("the public netmask for the router")
    publicmacaddress: str | None = shown("the public MAC address for the router")
    serviceofferingid: str | None = shown("the ID of the service offering of the virtual machine")
    serviceofferingname: str | None = shown("the name of the service offering of the virtual machine")
    version: str | None = shown("the version of template")
    softwareversion: str | None = shown("the version of the code / software in the router")
    requiresupgrade: bool = shown("true if the router template requires upgrader", False)
    isredundantrouter: bool = shown("if this router is an redundant virtual router", False)
    redundantstate: str = shown("the state of redundant virtual router", ...)
    # clients index it even where there is no VPC
    vpcid: str = shown("VPC the router belongs to", "")
    healthchecksfailed: bool = shown("true if any health checks had failed", False)
    healthcheckresults: list[HealthCheckResponse] | None = shown("Last executed health check result for the router")
    error: str | None = shown("why the router does not match what is asked of it, if it does not")
    nic: list[NicResponse] = shown("the list of nics associated with the router", [])


def show_health(router: Appliance) -> list[HealthCheckResponse]:
    """The newest probes of a router's services (appliance/schema/status.py: Health)."""
    services: Mapping[str, Any] = router.health.get("services", {})
    return [
        HealthCheckResponse(
            checkname=name,
            success=bool(probe.get("healthy")),
            lastupdated=datetime.fromtimestamp(probe["checked"], UTC) if "checked" in probe else None,
            details=str(probe.get("detail", "")),
        )
        for name, probe in sorted(services.items())
    ]


def show_routers(
    session: Session, routers: Sequence[Appliance], *, current_version: str, with_health: bool = False
) -> list[RouterResponse]:
    """Routers; ``current_version`` is the software that a router made now would run."""
    networks = {router.network_id for router in routers}
    session.scalars(select(Network).where(Network.id.in_(networks))).all()
    statement = (
        select(PublicIp, VlanIpRange)
        .join(VlanIpRange, VlanIpRange.id == PublicIp.vlan_ip_range_id)
        .where(PublicIp.network_id.in_(networks), PublicIp.is_source_nat)
    )
    public = {address.network_id: (address, span) for address, span in session.execute(statement)}
    return [
        _show_router(session, router, public.get(router.network_id), current_version, with_health) for router in routers
    ]


def _show_router(
    session: Session,
    router: Appliance,
    public: tuple[PublicIp, VlanIpRange] | None,
    current_version: str,
    with_health: bool,
) -> RouterResponse:
    zone = session.get_one(Zone, router.zone_id)
    macs = {nic["role"]: nic["mac"] for nic in reversed(router.nics)}
    control = IPv4Interface(f"{router.control_address}/{_CONTROL_PREFIX}")
    account = session.get(Account, router.account_id) if router.account_id else None
    offering = session.get(ServiceOffering, router.service_offering_id) if router.service_offering_id else None
    answer = RouterResponse(
        **(owned_by(account) if account else {}),
        id=router.id,
        name=router.name,
        state=router.state,
        created=router.created,
        zoneid=zone.id,
        zonename=zone.name,
        dns1=zone.dns1,
        dns2=zone.dns2,
        linklocalip=str(control.ip),
        linklocalnetmask=str(control.netmask),
        linklocalmacaddress=macs.get("control"),
        publicmacaddress=macs.get("public"),
        serviceofferingid=offering.id if offering else None,
        serviceofferingname=offering.name if offering else None,
        version=router.version,
        softwareversion=router.version,
        requiresupgrade=router.version is not None and router.version != current_version,
        redundantstate=router.redundant_state,
        healthchecksfailed=router.healthy is False,
        healthcheckresults=show_health(router) if with_health else None,
        error=router.last_error,
        nic=_nics(router),
    )
    if public is not None:
        answer.publicip, answer.publicnetmask = public[0].address, public[1].netmask
        answer.gateway = public[1].gateway
    _add_network(session, router, answer, macs.get("guest"))
    _add_host(session, router, answer)
    return answer


def _add_network(session: Session, router: Appliance, answer: RouterResponse, mac: str | None) -> None:
    network = session.get(Network, router.network_id) if router.network_id else None
    if network is None:
        return
    interface = IPv4Interface((network.gateway, network.cidr.split("/")[1]))
    answer.guestnetworkid, answer.guestnetworkname = network.id, network.name
    answer.guestipaddress, answer.guestnetmask = str(interface.ip), str(interface.netmask)
    answer.guestmacaddress, answer.networkdomain = mac, network.network_domain
    answer.isredundantrouter = network.offering.redundant_router


def _add_host(session: Session, router: Appliance, answer: RouterResponse) -> None:
    host = session.get(Host, router.host_id) if router.host_id else None
    if host is None:
        return
    cluster = session.get_one(Cluster, host.cluster_id)
    pod = session.get_one(Pod, cluster.pod_id)
    answer.hostid, answer.hostname, answer.hypervisor = host.id, host.name, cluster.hypervisor
    answer.podid, answer.podname = pod.id, pod.name


def _nics(router: Appliance) -> list[NicResponse]:
    """A router's NICs, which are no rows of their own: the id is the MAC."""
    traffic = {"guest": "Guest", "control": "Control", "public": "Public"}
    return [
        NicResponse(
            id=nic["mac"],
            networkid=nic.get("network") or None,
            macaddress=nic["mac"],
            traffictype=traffic.get(nic["role"], nic["role"]),
            deviceid=str(index),
            isdefault=nic["role"] == "public",
        )
        for index, nic in enumerate(router.nics)
    ]
