"""Site-to-site VPN connections and remote access VPNs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from ipaddress import IPv4Address, IPv4Network
from typing import TypeVar

from pydantic import SecretStr, ValidationError

from controlplane.convergence.compile.encoding import dump, reasons
from controlplane.convergence.compile.memo import CompileError
from controlplane.convergence.compile.served import Served
from controlplane.convergence.intent.rows import GuestNetwork
from controlplane.convergence.intent.vpn import Door, Tunnel
from controlplane.network import vpnpolicies
from router.services.vpn.model import SiteConnection, Vpn
from router.services.vpn.remote.model import RemoteAccess

Row = TypeVar("Row", Tunnel, Door)
Made = TypeVar("Made", SiteConnection, RemoteAccess)

#: seconds of silence after which a peer is asked whether it lives, where dead peer detection is on
DPD_DELAY = 30
#: and where it is off: a goodbye may be lost, and without a question the connection would be "Connected" for hours
SILENCE = 120


def section(served: Served) -> bytes | None:
    """The document's ``vpn``; None without connections and remote access."""
    addresses = {public.id: public.address for public in served.addresses.values()}
    networks = {network.id: network for network in served.networks}

    def made(rows: Iterable[Row], make: Callable[[Row, str, GuestNetwork], Made]) -> tuple[Made, ...]:
        found = []
        for row in rows:
            if row.public_ip_id in addresses and row.network_id in networks:
                try:
                    found.append(make(row, addresses[row.public_ip_id], networks[row.network_id]))
                except ValidationError as error:
                    raise CompileError(row.id, reasons(error)) from error
        return tuple(found)

    connections = made(served.intent.tunnels, _connection)
    remote = made(served.intent.doors, _remote_access)
    return dump(Vpn(connections=connections, remote=remote)) if connections or remote else None


def _connection(row: Tunnel, address: str, network: GuestNetwork) -> SiteConnection:
    return SiteConnection.model_validate(
        {
            "id": row.id,
            "local": IPv4Address(address),
            "peer": IPv4Address(row.peer),
            "peer_id": row.peer_id,
            "local_networks": (IPv4Network(network.cidr),),
            "remote_networks": tuple(map(IPv4Network, row.cidrs)),
            "psk": SecretStr(row.psk),
            "version": row.ike_version,
            "ike": vpnpolicies.ike(row.ike_policy, row.ike_version),
            "esp": vpnpolicies.esp(row.esp_policy, row.ike_version),
            "ike_lifetime": row.ike_lifetime,
            "esp_lifetime": row.esp_lifetime,
            "dpd": DPD_DELAY if row.dpd else SILENCE,
            "passive": row.passive,
            "force_encap": row.force_encap,
            "split": row.split,
            "serial": row.serial,
        }
    )


def _remote_access(row: Door, address: str, network: GuestNetwork) -> RemoteAccess:
    return RemoteAccess.model_validate(
        {
            "address": IPv4Address(address),
            "psk": SecretStr(row.psk),
            "clients": {"first": IPv4Address(row.first), "last": IPv4Address(row.last)},
            "networks": (IPv4Network(network.cidr),),
            "dns": IPv4Address(network.gateway),
            "open": row.open_firewall,
            "users": tuple({"name": name, "password": SecretStr(password)} for name, password in row.users),
            "ikev2": {
                "identity": row.identity,
                "certificate": row.certificate,
                "key": SecretStr(row.key),
                "ca": row.authority,
            },
        }
    )
