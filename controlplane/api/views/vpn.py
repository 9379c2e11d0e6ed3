"""Site-to-site VPN as the API shows it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from controlplane.api.command import shown
from controlplane.api.listing import OwnedResponse, owned_by
from controlplane.secrets import Secrets
from controlplane.store.models import VpnConnection, VpnCustomerGateway, VpnGateway


class _Far(OwnedResponse):
    """What a customer gateway and its connection have in common."""

    gateway: str = shown("address of the far end", ...)
    peerid: str | None = shown("what the far end calls itself, when that is not its address")
    cidrlist: str = shown("networks behind it, comma-joined", ...)
    ipsecpsk: str | None = shown("the preshared key, in lists only")
    ikepolicy: str = shown("policy of phase 1", ...)
    esppolicy: str = shown("policy of phase 2", ...)
    ikeversion: str = shown("ike, ikev1 or ikev2", ...)
    ikelifetime: int = shown("seconds that keys of phase 1 live", ...)
    esplifetime: int = shown("seconds that keys of phase 2 live", ...)
    dpd: bool = shown("dead peer detection", ...)
    forceencap: bool = shown("ESP always in UDP", ...)
    splitconnections: bool = shown("a security association for each pair of networks", ...)


class VpnCustomerGatewayResponse(_Far):
    """A customer gateway."""

    id: str = shown("id of the customer gateway", ...)
    name: str = shown("name of the customer gateway", ...)


class VpnGatewayResponse(OwnedResponse):
    """A VPN gateway."""

    id: str = shown("id of the VPN gateway", ...)
    publicip: str = shown("its public address", ...)
    vpcid: str | None = shown("id of its VPC")
    networkid: str | None = shown("id of its isolated network")
    networkname: str | None = shown("name of its isolated network")
    fordisplay: bool = shown("it is shown to its owner", ...)


class VpnConnectionResponse(_Far):
    """A connection."""

    id: str = shown("id of the connection", ...)
    s2svpngatewayid: str = shown("id of the VPN gateway", ...)
    publicip: str = shown("public address of the VPN gateway", ...)
    s2scustomergatewayid: str = shown("id of the customer gateway", ...)
    passive: bool = shown("it waits for the far end", ...)
    state: str = shown("Pending, Connecting, Connected, Disconnected or Error", ...)
    statedetail: str | None = shown("why it is not connected")
    created: datetime = shown("when it was made", ...)
    fordisplay: bool = shown("it is shown to its owner", ...)


def _far(row: VpnCustomerGateway, secrets: Secrets | None) -> dict[str, object]:
    return {
        **owned_by(row.account),
        "gateway": row.gateway,
        "peerid": row.peer_id,
        "cidrlist": ",".join(row.cidrs),
        "ipsecpsk": secrets.open(row.psk) if secrets is not None else None,
        "ikepolicy": row.ike_policy,
        "esppolicy": row.esp_policy,
        "ikeversion": row.ike_version,
        "ikelifetime": row.ike_lifetime,
        "esplifetime": row.esp_lifetime,
        "dpd": row.dpd,
        "forceencap": row.force_encap,
        "splitconnections": row.split_connections,
    }


def show_customer_gateways(
    rows: Sequence[VpnCustomerGateway], secrets: Secrets | None = None
) -> list[VpnCustomerGatewayResponse]:
    """Customer gateways; with ``secrets`` their keys too, which no stored result of a job may hold."""
    return [
        VpnCustomerGatewayResponse.model_validate({**_far(row, secrets), "id": row.id, "name": row.name})
        for row in rows
    ]


def show_gateways(rows: Sequence[VpnGateway]) -> list[VpnGatewayResponse]:
    """VPN gateways."""
    return [
        VpnGatewayResponse(
            **owned_by(row.account),
            id=row.id,
            publicip=row.public_ip.address,
            vpcid=row.vpc_id,
            networkid=row.network_id,
            networkname=row.network.name if row.network is not None else None,
            fordisplay=row.for_display,
        )
        for row in rows
    ]


def show_connections(rows: Sequence[VpnConnection], secrets: Secrets | None = None) -> list[VpnConnectionResponse]:
    """Connections; ``secrets`` as of customer gateways."""
    return [
        VpnConnectionResponse.model_validate(
            {
                **_far(row.customer_gateway, secrets),
                "id": row.id,
                "s2svpngatewayid": row.gateway_id,
                "publicip": row.gateway.public_ip.address,
                "s2scustomergatewayid": row.customer_gateway_id,
                "passive": row.passive,
                "state": row.state,
                "statedetail": row.detail or None,
                "created": row.created,
                "fordisplay": row.for_display,
            }
        )
        for row in rows
    ]
