"""Virtual routers as the API shows them."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from controlplane.api.command import Response, shown
from controlplane.api.listing import OwnedResponse, owned_by
from controlplane.api.views.appliances import ApplianceResponse, common_of, macs_of
from controlplane.api.views.nics import NicResponse
from controlplane.network import guestranges
from controlplane.store.models import (
    Account,
    Appliance,
    Network,
    PublicIp,
    VlanIpRange,
)


class HealthCheckResponse(Response):
    """The newest probe of one service of a router."""

    checkname: str = shown("service that was probed", ...)
    checktype: str = shown("kind of check", "basic")
    success: bool = shown("whether the probe passed", ...)
    details: str = shown("what the probe found, where it failed", "")


class RouterHealthResponse(Response):
    """All of a router's probes."""

    routerid: str = shown("the id of the router", ...)
    healthchecks: list[HealthCheckResponse] = shown("one for each service", [])


class RouterResponse(OwnedResponse, ApplianceResponse):
    """A virtual router."""

    role: str = shown("what the router is for", "VIRTUAL_ROUTER")
    networkdomain: str | None = shown("DNS domain of its guests")
    guestnetworkid: str | None = shown("id of the network it serves")
    guestnetworkname: str | None = shown("name of the network it serves")
    guestipaddress: str | None = shown("its address on the guest network")
    guestnetmask: str | None = shown("netmask of the guest network")
    guestmacaddress: str | None = shown("its MAC on the guest network")
    softwareversion: str | None = shown("version it runs")
    requiresupgrade: bool = shown("it runs another version than a new one would", False)
    isredundantrouter: bool = shown("one of a redundant pair", False)
    redundantstate: str = shown("which one of a redundant pair it is", ...)
    # clients index these even where there is none
    publicip: str = shown("its source NAT address", "")
    vpcid: str = shown("VPC it belongs to, empty for none", "")
    healthcheckresults: list[HealthCheckResponse] | None = shown("newest probes of its services")
    nic: list[NicResponse] = shown("its NICs", [])


def show_health(router: Appliance) -> list[HealthCheckResponse]:
    """The newest probes of a router's services, as ``controlplane.convergence.observe`` keeps them."""
    return [
        HealthCheckResponse(checkname=name, success=probe["healthy"], details=probe["detail"])
        for name, probe in sorted(router.health.items())
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
    account = session.get(Account, router.account_id) if router.account_id else None
    answer = RouterResponse(
        **(owned_by(account) if account else {}),
        **common_of(session, router, public),
        softwareversion=router.version,
        requiresupgrade=router.version is not None and router.version != current_version,
        redundantstate=router.redundant_state,
        healthcheckresults=show_health(router) if with_health else None,
        nic=_nics(router),
    )
    _add_network(session, router, answer)
    return answer


def _add_network(session: Session, router: Appliance, answer: RouterResponse) -> None:
    network = session.get(Network, router.network_id) if router.network_id else None
    if network is None:
        return
    answer.guestnetworkid, answer.guestnetworkname = network.id, network.name
    address = guestranges.router_address(session, network)
    if address is not None:
        answer.guestipaddress, answer.guestnetmask = address, guestranges.placement(network, address).netmask
    answer.guestmacaddress, answer.networkdomain = macs_of(router).get("guest"), network.network_domain
    answer.isredundantrouter = network.offering.redundant_router


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
