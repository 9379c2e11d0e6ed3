"""Site-to-site VPN connections."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

from pydantic import SecretStr, ValidationError

from controlplane.convergence.compile.encoding import dump, reasons
from controlplane.convergence.compile.memo import CompileError
from controlplane.convergence.compile.served import Served
from controlplane.convergence.intent.vpn import Tunnel
from controlplane.network import vpnpolicies
from router.services.vpn.model import SiteConnection, Vpn

#: seconds of silence after which a peer is asked whether it lives, where dead peer detection is on
DPD_DELAY = 30


def section(served: Served) -> bytes | None:
    """The document's ``vpn``; None without connections."""
    addresses = {public.id: public.address for public in served.addresses.values()}
    cidrs = {network.id: network.cidr for network in served.networks}
    found = []
    for row in served.intent.tunnels:
        if row.public_ip_id in addresses and row.network_id in cidrs:
            try:
                found.append(_connection(row, addresses[row.public_ip_id], cidrs[row.network_id]))
            except ValidationError as error:
                raise CompileError(row.id, reasons(error)) from error
    return dump(Vpn(connections=tuple(found))) if found else None


def _connection(row: Tunnel, address: str, cidr: str) -> SiteConnection:
    return SiteConnection.model_validate(
        {
            "id": row.id,
            "local": IPv4Address(address),
            "peer": IPv4Address(row.peer),
            "local_networks": (IPv4Network(cidr),),
            "remote_networks": tuple(map(IPv4Network, row.cidrs)),
            "psk": SecretStr(row.psk),
            "version": row.ike_version,
            "ike": vpnpolicies.ike(row.ike_policy, row.ike_version),
            "esp": vpnpolicies.esp(row.esp_policy, row.ike_version),
            "ike_lifetime": row.ike_lifetime,
            "esp_lifetime": row.esp_lifetime,
            "dpd": DPD_DELAY if row.dpd else None,
            "passive": row.passive,
            "force_encap": row.force_encap,
            "split": row.split,
            "serial": row.serial,
        }
    )
