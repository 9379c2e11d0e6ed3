"""Site-to-site VPN: customer gateways, the far ends of connections (guide: chapter 15.17.4.1)."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from controlplane import jobs
from controlplane.api import listing
from controlplane.api.call import Call
from controlplane.api.command import Async, Params, Response, ScopedListParams, Success, command, param
from controlplane.api.views.vpn import VpnCustomerGatewayResponse, show_customer_gateways
from controlplane.convergence.desired import desire_network
from controlplane.errors import InUseError, RuleConflictError
from controlplane.network import addressing, vpn, vpnpolicies
from controlplane.store.models import AsyncJob, VpnConnection, VpnCustomerGateway

VERSIONS = ("ike", "ikev1", "ikev2")


class FarEnd(Params):
    gateway: str = param("public address of the far end")
    peerid: str | None = param(
        "what the far end calls itself in IKE when that is not its address: an address behind a NAT or a domain name",
        default=None,
    )
    cidrlist: list[str] = param("private networks behind it, comma-joined")
    ipsecpsk: str = param("the preshared key", length=256, secret=True)
    ikepolicy: str = param("phase 1: cipher-hash;group, as aes256-sha256;modp2048", default=vpnpolicies.IKE_DEFAULT)
    esppolicy: str = param("phase 2: cipher-hash, with ;group for PFS", default=vpnpolicies.ESP_DEFAULT)
    ikeversion: str = param("ike (either), ikev1 or ikev2", default="ike", choices=VERSIONS)
    ikelifetime: int = param("seconds that keys of phase 1 live", default=86_400, minimum=60, maximum=86_400)
    esplifetime: int = param("seconds that keys of phase 2 live", default=3600, minimum=60, maximum=86_400)
    dpd: bool = param("ask a silent peer whether it lives", default=False)
    forceencap: bool = param("ESP in UDP also without a NAT on the way", default=False)
    splitconnections: bool = param("a security association for each pair of networks", default=False)
    name: str | None = param("name of the customer gateway", default=None)
    account: str | None = param("owner of the gateway; needs domainid", default=None)
    domainid: str | None = param("domain of the owner", default=None, entity="Domain")


class UpdateFarEnd(FarEnd):
    id: str = param("id of the customer gateway", entity="Site2SiteCustomerGateway")


class CustomerGatewayId(Params):
    id: str = param("id of the customer gateway", entity="Site2SiteCustomerGateway")


class ListCustomerGateways(ScopedListParams):
    id: str | None = param("id of the customer gateway", default=None, entity="Site2SiteCustomerGateway")


def _values(call: Call, params: FarEnd) -> dict[str, Any]:
    """The columns that a command's parameters come to. ParameterError for what does not fit."""
    gateway = str(addressing.parse_address("gateway", params.gateway))
    peer_id = vpnpolicies.peer_id(params.peerid) if params.peerid is not None else None
    vpnpolicies.ike(params.ikepolicy, params.ikeversion)
    vpnpolicies.esp(params.esppolicy, params.ikeversion)
    return {
        "gateway": gateway,
        "peer_id": None if peer_id == gateway else peer_id,
        "cidrs": vpn.parse_cidrs(gateway, params.cidrlist),
        "psk": call.runtime.secrets.seal(params.ipsecpsk),
        "ike_policy": params.ikepolicy.strip().lower(),
        "esp_policy": params.esppolicy.strip().lower(),
        "ike_version": params.ikeversion,
        "ike_lifetime": params.ikelifetime,
        "esp_lifetime": params.esplifetime,
        "dpd": params.dpd,
        "force_encap": params.forceencap,
        "split_connections": params.splitconnections,
    }


def _check_name(call: Call, account_id: str, name: str, but: str = "") -> None:
    same = select(VpnCustomerGateway.id).where(
        VpnCustomerGateway.account_id == account_id, VpnCustomerGateway.name == name, VpnCustomerGateway.id != but
    )
    if call.session.scalar(same) is not None:
        raise RuleConflictError(f"name: the account has a VPN customer gateway {name} already")


@command(
    "createVpnCustomerGateway",
    description="Tells of a far end of site-to-site VPN connections",
    params=FarEnd,
    response=VpnCustomerGatewayResponse,
    object_name="vpncustomergateway",
    is_async=True,
    creates=True,
    event="VPN.S2S.CUSTOMER.GATEWAY.CREATE",
)
def create_vpn_customer_gateway(call: Call, params: FarEnd) -> Async:
    owner = call.owner(params.account, params.domainid)
    values = _values(call, params)
    name = params.name or f"VPN-{values['gateway']}"
    _check_name(call, owner.id, name)
    row = VpnCustomerGateway(account_id=owner.id, name=name, **values)
    call.session.add(row)
    call.session.flush()
    return _done(row, f"creating VPN customer gateway {name}")


def _done(row: VpnCustomerGateway, text: str, target: tuple[str, int] | None = None) -> Async:
    arguments = {"customer_gateway_id": row.id}
    return Async("Site2SiteCustomerGateway", row.id, text, target, completion="vpn.far", arguments=arguments)


@jobs.completion("vpn.far")
def _shown(session: Session, job: AsyncJob, *, customer_gateway_id: str) -> Response:
    row = session.get(VpnCustomerGateway, customer_gateway_id)
    return show_customer_gateways([row])[0] if row is not None else Success()


@command(
    "updateVpnCustomerGateway",
    description="Changes a customer gateway that has no connection, or one in state Error",
    params=UpdateFarEnd,
    response=VpnCustomerGatewayResponse,
    object_name="vpncustomergateway",
    is_async=True,
    event="VPN.S2S.CUSTOMER.GATEWAY.UPDATE",
)
def update_vpn_customer_gateway(call: Call, params: UpdateFarEnd) -> Async:
    row = call.lookup(VpnCustomerGateway, params.id)
    values = _values(call, params)
    connection = vpn.connection_of(call.session, row)
    if connection is not None and connection.state != "Error":
        raise InUseError(
            f"VPN customer gateway {row.name} has connection {connection.id} in state {connection.state}; "
            "delete that first (only in state Error it may stay)"
        )
    name = params.name or row.name
    _check_name(call, row.account_id, name, row.id)
    if connection is not None:
        vpn.check_fit(call.session, connection.gateway, values["gateway"], values["cidrs"], but=connection.id)
    for column, value in {**values, "name": name}.items():
        setattr(row, column, value)
    return _done(row, f"updating VPN customer gateway {row.name}", _again(call, connection))


def _again(call: Call, connection: VpnConnection | None) -> tuple[str, int] | None:
    if connection is None:
        return None
    vpn.begin(call.session, connection)
    network = connection.gateway.network_id
    return desire_network(call.session, network) if network is not None else None


@command(
    "deleteVpnCustomerGateway",
    description="Forgets a customer gateway that has no connection",
    params=CustomerGatewayId,
    is_async=True,
    event="VPN.S2S.CUSTOMER.GATEWAY.DELETE",
)
def delete_vpn_customer_gateway(call: Call, params: CustomerGatewayId) -> Async:
    row = call.lookup(VpnCustomerGateway, params.id)
    connection = vpn.connection_of(call.session, row)
    if connection is not None:
        raise InUseError(f"VPN customer gateway {row.name} has connection {connection.id}; delete that first")
    call.session.delete(row)
    return Async("Site2SiteCustomerGateway", row.id, f"deleting VPN customer gateway {row.name}")


@command(
    "listVpnCustomerGateways",
    description="Lists customer gateways",
    params=ListCustomerGateways,
    response=VpnCustomerGatewayResponse,
    object_name="vpncustomergateway",
)
def list_vpn_customer_gateways(
    call: Call, params: ListCustomerGateways
) -> tuple[int, list[VpnCustomerGatewayResponse]]:
    statement = select(VpnCustomerGateway).order_by(VpnCustomerGateway.created, VpnCustomerGateway.id)
    statement = listing.scope(call, statement, VpnCustomerGateway.account_id, params, by_id=params.id is not None)
    if params.id is not None:
        statement = statement.where(VpnCustomerGateway.id == params.id)
    statement = listing.search(statement, params.keyword, VpnCustomerGateway.name, VpnCustomerGateway.gateway)
    secrets = call.runtime.secrets
    return listing.fetch(call, statement, params, lambda rows: list(show_customer_gateways(rows, secrets)))
