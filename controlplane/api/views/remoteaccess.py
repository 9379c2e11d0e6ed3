"""Remote access VPNs and their users as the API shows them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from ipaddress import IPv4Address

from sqlalchemy.orm import Session

from controlplane.api.command import Response, shown
from controlplane.api.listing import OwnedResponse, owned_by
from controlplane.network import remoteaccess, vpnsessions
from controlplane.network.vpnsessions import Visit
from controlplane.store.models import RemoteAccessVpn, VpnUser


class VpnSessionResponse(Response):
    """A client that is connected."""

    username: str = shown("name of the VPN user", ...)
    publicip: str = shown("address of the VPN server", ...)
    protocol: str = shown("ikev2 or l2tp", ...)
    ipaddress: str = shown("the client's address inside", ...)
    sourceip: str = shown("where the client connects from", ...)
    connected: datetime = shown("since when", ...)


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
    session: list[VpnSessionResponse] = shown("who is connected, as the router reported it last", [])


class VpnUserResponse(OwnedResponse):
    """A VPN user."""

    id: str = shown("id of the VPN user", ...)
    username: str = shown("name of the VPN user", ...)
    state: str = shown("Add, Active or Revoke", ...)
    session: list[VpnSessionResponse] = shown("where the user is connected, as the routers reported it last", [])


def show_remote_access(
    session: Session, rows: Sequence[RemoteAccessVpn], key: Callable[[bytes], str]
) -> list[RemoteAccessVpnResponse]:
    """Remote access VPNs. ``key`` makes the text of a sealed preshared key: opened in an answer, sealed in a job."""
    visits = vpnsessions.of(session, rows)
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
            session=_show_visits(visits[row.id]),
        )
        for row in rows
    ]


def _show_visits(visits: Iterable[Visit]) -> list[VpnSessionResponse]:
    return [
        VpnSessionResponse(
            username=one.user,
            publicip=one.address,
            protocol=one.protocol,
            ipaddress=one.client,
            sourceip=one.peer,
            connected=one.since,
        )
        for one in visits
    ]


def show_users(session: Session, rows: Sequence[VpnUser]) -> list[VpnUserResponse]:
    """VPN users."""
    accounts = {row.account_id for row in rows}
    doors = {id: remoteaccess.of_account(session, id) for id in accounts}
    visits = {
        id: [visit for found in vpnsessions.of(session, vpns).values() for visit in found] for id, vpns in doors.items()
    }
    return [
        VpnUserResponse(
            **owned_by(row.account),
            id=row.id,
            username=row.name,
            state=row.state,
            # names are the same in any case
            session=_show_visits(one for one in visits[row.account_id] if one.user.lower() == row.name.lower()),
        )
        for row in rows
    ]
