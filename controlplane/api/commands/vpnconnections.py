"""Site-to-site VPN: gateways of networks, and connections to customer gateways (guide: chapters 15.17.4.2 to .4)."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from controlplane import jobs
from controlplane.api import listing
from controlplane.api.call import Call
from controlplane.api.command import Async, Params, Response, ScopedListParams, Success, command, param
from controlplane.api.views.vpn import VpnConnectionResponse, VpnGatewayResponse, show_connections, show_gateways
from controlplane.convergence.desired import desire_network
from controlplane.errors import ParameterError, UnsupportedError
from controlplane.network import vpn
from controlplane.store.models import AsyncJob, Network, VpnConnection, VpnCustomerGateway, VpnGateway


class CreateVpnGateway(Params):
    vpcid: str | None = param("id of the VPC", default=None, entity="Vpc")
    networkid: str | None = param("id of the isolated network, instead of a VPC", default=None, entity="Network")
    fordisplay: bool = param("it is shown to its owner", default=True)


class GatewayId(Params):
    id: str = param("id of the VPN gateway", entity="Site2SiteVpnGateway")


class ListVpnGateways(ScopedListParams):
    id: str | None = param("id of the VPN gateway", default=None, entity="Site2SiteVpnGateway")
    vpcid: str | None = param("the one of this VPC", default=None, entity="Vpc")
    networkid: str | None = param("the one of this isolated network", default=None, entity="Network")
    fordisplay: bool | None = param("those that are, or are not, shown to their owner", default=None)


class CreateVpnConnection(Params):
    s2scustomergatewayid: str = param("id of the customer gateway", entity="Site2SiteCustomerGateway")
    s2svpngatewayid: str = param("id of the VPN gateway", entity="Site2SiteVpnGateway")
    passive: bool = param("wait for the far end instead of calling it", default=False)
    fordisplay: bool = param("it is shown to its owner", default=True)


class ConnectionId(Params):
    id: str = param("id of the connection", entity="Site2SiteVpnConnection")


class ResetVpnConnection(ConnectionId):
    account: str | None = param("owner of the connection", default=None)
    domainid: str | None = param("domain of the owner", default=None, entity="Domain")


class UpdateVpnConnection(ConnectionId):
    passive: bool | None = param("wait for the far end instead of calling it", default=None)
    fordisplay: bool | None = param("it is shown to its owner", default=None)


class ListVpnConnections(ScopedListParams):
    id: str | None = param("id of the connection", default=None, entity="Site2SiteVpnConnection")
    vpcid: str | None = param("those of this VPC", default=None, entity="Vpc")
    networkid: str | None = param("those of this isolated network", default=None, entity="Network")
    fordisplay: bool | None = param("those that are, or are not, shown to their owner", default=None)


@command(
    "createVpnGateway",
    description="Gives a network its end of site-to-site VPN connections",
    params=CreateVpnGateway,
    response=VpnGatewayResponse,
    object_name="vpngateway",
    is_async=True,
    creates=True,
    event="VPN.S2S.VPN.GATEWAY.CREATE",
)
def create_vpn_gateway(call: Call, params: CreateVpnGateway) -> Async:
    if params.vpcid is not None:
        raise UnsupportedError("vpcid: there are no VPCs yet; give networkid for an isolated network")
    if params.networkid is None:
        raise ParameterError("vpcid or networkid must be given")
    row = vpn.create_gateway(call.session, call.lookup(Network, params.networkid, "networkid"))
    row.for_display = params.fordisplay
    return Async(
        "Site2SiteVpnGateway",
        row.id,
        f"creating VPN gateway {row.public_ip.address}",
        completion="vpn.gateway",
        arguments={"gateway_id": row.id},
    )


@jobs.completion("vpn.gateway")
def _gateway_shown(session: Session, job: AsyncJob, *, gateway_id: str) -> Response:
    row = session.get(VpnGateway, gateway_id)
    return show_gateways([row])[0] if row is not None else Success()


@command(
    "deleteVpnGateway",
    description="Takes a network's VPN gateway away; it must have no connection",
    params=GatewayId,
    is_async=True,
    event="VPN.S2S.VPN.GATEWAY.DELETE",
)
def delete_vpn_gateway(call: Call, params: GatewayId) -> Async:
    row = call.lookup(VpnGateway, params.id)
    vpn.need_unused(call.session, row)
    call.session.delete(row)
    return Async("Site2SiteVpnGateway", row.id, f"deleting VPN gateway {row.public_ip.address}")


@command(
    "listVpnGateways",
    description="Lists VPN gateways",
    params=ListVpnGateways,
    response=VpnGatewayResponse,
    object_name="vpngateway",
)
def list_vpn_gateways(call: Call, params: ListVpnGateways) -> tuple[int, list[VpnGatewayResponse]]:
    statement = select(VpnGateway).order_by(VpnGateway.created, VpnGateway.id)
    statement = listing.scope(call, statement, VpnGateway.account_id, params, by_id=params.id is not None)
    statement = listing.displayed(call, statement, VpnGateway.for_display, params.fordisplay)
    for column, value in (
        (VpnGateway.id, params.id),
        (VpnGateway.vpc_id, params.vpcid),
        (VpnGateway.network_id, params.networkid),
    ):
        if value is not None:
            statement = statement.where(column == value)
    return listing.fetch(call, statement, params, lambda rows: list(show_gateways(rows)))


@command(
    "createVpnConnection",
    description="Connects a VPN gateway with a customer gateway",
    params=CreateVpnConnection,
    response=VpnConnectionResponse,
    object_name="vpnconnection",
    is_async=True,
    creates=True,
    event="VPN.S2S.CONNECTION.CREATE",
)
def create_vpn_connection(call: Call, params: CreateVpnConnection) -> Async:
    far = call.lookup(VpnCustomerGateway, params.s2scustomergatewayid, "s2scustomergatewayid")
    near = call.lookup(VpnGateway, params.s2svpngatewayid, "s2svpngatewayid")
    connection = vpn.connect(call.session, near, far, passive=params.passive)
    connection.for_display = params.fordisplay
    return _pushed(call, connection, f"creating VPN connection to {far.name}", "vpn.connected")


def _pushed(call: Call, connection: VpnConnection, text: str, completion: str) -> Async:
    network = connection.gateway.network_id
    return Async(
        "Site2SiteVpnConnection",
        connection.id,
        text,
        target=desire_network(call.session, network) if network is not None else None,
        completion=completion,
        arguments={"connection_id": connection.id},
    )


@jobs.completion("vpn.connected")
@jobs.completion("vpn.changed")
def _shown(session: Session, job: AsyncJob, *, connection_id: str) -> Response:
    row = session.get(VpnConnection, connection_id)
    return show_connections([row])[0] if row is not None and row.state != vpn.REMOVED else Success()


@jobs.reversal("vpn.connected")
def _not_connected(session: Session, job: AsyncJob, *, connection_id: str) -> None:
    row = session.get(VpnConnection, connection_id)
    if row is not None:
        row.state = vpn.REMOVED
        vpn.remove(session, connection_id)


@command(
    "resetVpnConnection",
    description="Takes a connection down and up again",
    params=ResetVpnConnection,
    response=VpnConnectionResponse,
    object_name="vpnconnection",
    is_async=True,
    event="VPN.S2S.CONNECTION.RESET",
)
def reset_vpn_connection(call: Call, params: ResetVpnConnection) -> Async:
    connection = _present(call, params.id)
    connection.serial += 1
    vpn.begin(call.session, connection)
    return _pushed(call, connection, f"resetting VPN connection to {connection.customer_gateway.name}", "vpn.changed")


def _present(call: Call, id: str) -> VpnConnection:
    connection = call.lookup(VpnConnection, id)
    if connection.state == vpn.REMOVED:
        raise ParameterError(f"VPN connection {id} is being deleted")
    return connection


@command(
    "updateVpnConnection",
    description="Changes who of a connection calls, and how it is shown",
    params=UpdateVpnConnection,
    response=VpnConnectionResponse,
    object_name="vpnconnection",
    is_async=True,
    event="VPN.S2S.CONNECTION.UPDATE",
)
def update_vpn_connection(call: Call, params: UpdateVpnConnection) -> Async:
    connection = _present(call, params.id)
    if params.fordisplay is not None:
        connection.for_display = params.fordisplay
    if params.passive is not None and params.passive != connection.passive:
        connection.passive = params.passive
        vpn.begin(call.session, connection)
    return _pushed(call, connection, f"updating VPN connection to {connection.customer_gateway.name}", "vpn.changed")


@command(
    "deleteVpnConnection",
    description="Takes a connection down for good",
    params=ConnectionId,
    is_async=True,
    event="VPN.S2S.CONNECTION.DELETE",
)
def delete_vpn_connection(call: Call, params: ConnectionId) -> Async:
    connection = call.lookup(VpnConnection, params.id)
    connection.state = vpn.REMOVED
    return _pushed(call, connection, f"deleting VPN connection to {connection.customer_gateway.name}", "vpn.deleted")


@jobs.completion("vpn.deleted")
def _deleted(session: Session, job: AsyncJob, *, connection_id: str) -> Response:
    vpn.remove(session, connection_id)
    return Success()


@command(
    "listVpnConnections",
    description="Lists site-to-site VPN connections",
    params=ListVpnConnections,
    response=VpnConnectionResponse,
    object_name="vpnconnection",
)
def list_vpn_connections(call: Call, params: ListVpnConnections) -> tuple[int, list[VpnConnectionResponse]]:
    statement = (
        select(VpnConnection)
        .join(VpnGateway, VpnGateway.id == VpnConnection.gateway_id)
        .order_by(VpnConnection.created, VpnConnection.id)
    )
    statement = listing.scope(call, statement, VpnConnection.account_id, params, by_id=params.id is not None)
    statement = listing.displayed(call, statement, VpnConnection.for_display, params.fordisplay)
    for column, value in (
        (VpnConnection.id, params.id),
        (VpnGateway.vpc_id, params.vpcid),
        (VpnGateway.network_id, params.networkid),
    ):
        if value is not None:
            statement = statement.where(column == value)
    secrets = call.runtime.secrets
    return listing.fetch(call, statement, params, lambda rows: list(show_connections(rows, secrets)))
