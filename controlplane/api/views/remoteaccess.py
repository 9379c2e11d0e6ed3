"""Remote access VPNs and their users as the API shows them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from ipaddress import IPv4Address

from controlplane.api.command import shown
from controlplane.api.listing import OwnedResponse, owned_by
from controlplane.network import remoteaccess
from controlplane.store.models import RemoteAccessVpn, VpnUser


class RemoteAccessVpnResponse(OwnedResponse):
    """A remote access VPN."""

    id: str = shown("id of the remote access VPN", ...)
    publicip: str = shown("address of the VPN server", ...)
    publicipid: str = shown("id of the address of the VPN server", ...)
    iprange: str = shown("addresses that clients get", ...)
    presharedkey: str = shown("the IPsec preshared key, for L2TP", ...)
    state: str = shown("Added, Running or Removed", ...)
    statedetail: str | None = shown("what is not served of it, and why")
    fordisplay: bool = shown("it is shown to its owner", ...)
    networkid: str = shown("id of the network that clients reach", ...)
    networkname: str = shown("name of the network that clients reach", ...)
    servername: str = shown("what IKEv2 clients know the server by: a DNS name or its address", ...)
    certificateexpires: datetime = shown("when the server's certificate ends; the next one is made long before", ...)


class VpnUserResponse(OwnedResponse):
    """A VPN user."""

    id: str = shown("id of the VPN user", ...)
    username: str = shown("name of the VPN user", ...)
    state: str = shown("Add, Active or Revoke", ...)


def show_remote_access(rows: Sequence[RemoteAccessVpn], key: Callable[[bytes], str]) -> list[RemoteAccessVpnResponse]:
    """Remote access VPNs. ``key`` makes the text of a sealed preshared key: opened in an answer, sealed in a job."""
    return [
        RemoteAccessVpnResponse(
            **owned_by(row.account),
            id=row.id,
            publicip=row.public_ip.address,
            publicipid=row.public_ip_id,
            iprange=f"{IPv4Address(row.first) + 1}-{row.last}",
            presharedkey=key(row.psk),
            state=row.state,
            statedetail=row.detail or None,
            fordisplay=row.for_display,
            networkid=row.network_id,
            networkname=row.network.name,
            servername=remoteaccess.identity(row),
            certificateexpires=row.expires,
        )
        for row in rows
    ]


def show_users(rows: Sequence[VpnUser]) -> list[VpnUserResponse]:
    """VPN users."""
    return [VpnUserResponse(**owned_by(row.account), id=row.id, username=row.name, state=row.state) for row in rows]
