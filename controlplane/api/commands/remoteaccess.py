"""Remote access VPNs (guide: chapter 15.17.1)."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from controlplane import jobs
from controlplane.api import listing
from controlplane.api.call import Call
from controlplane.api.command import Async, Params, Response, ScopedListParams, Success, command, param
from controlplane.api.views.remoteaccess import RemoteAccessVpnResponse, show_remote_access
from controlplane.convergence.desired import desire_network
from controlplane.errors import ParameterError
from controlplane.network import remoteaccess, vpn, vpnsettings
from controlplane.secrets import as_text
from controlplane.store.models import AsyncJob, PublicIp, RemoteAccessVpn


class CreateRemoteAccessVpn(Params):
    publicipid: str = param("id of an isolated network's source-NAT address", entity="IPAddress")
    iprange: str | None = param("addresses for clients, first-last; the first one is the server's", default=None)
    openfirewall: bool = param("open the VPN's ports; without, firewall rules must", default=True)
    servername: str | None = param("DNS name that IKEv2 clients know it by, its address unless given", default=None)
    account: str | None = param("owner of the VPN; needs domainid", default=None)
    domainid: str | None = param("domain of the owner", default=None, entity="Domain")
    fordisplay: bool = param("it is shown to its owner", default=True)


class DeleteRemoteAccessVpn(Params):
    publicipid: str = param("id of the VPN's address", entity="IPAddress")


class UpdateRemoteAccessVpn(Params):
    id: str = param("id of the remote access VPN", entity="RemoteAccessVpn")
    fordisplay: bool | None = param("it is shown to its owner", default=None)
    servername: str | None = param("new name that IKEv2 clients know the server by, or its address", default=None)


class ListRemoteAccessVpns(ScopedListParams):
    id: str | None = param("id of the remote access VPN", default=None, entity="RemoteAccessVpn")
    publicipid: str | None = param("the one of this address", default=None, entity="IPAddress")
    networkid: str | None = param("the one of this network", default=None, entity="Network")
    fordisplay: bool | None = param("those that are, or are not, shown to their owner", default=None)


@command(
    "createRemoteAccessVpn",
    description="Lets an account's VPN users reach an isolated network, by L2TP over IPsec and by IKEv2",
    params=CreateRemoteAccessVpn,
    response=RemoteAccessVpnResponse,
    object_name="remoteaccessvpn",
    is_async=True,
    creates=True,
    event="VPN.REMOTE.ACCESS.CREATE",
)
def create_remote_access_vpn(call: Call, params: CreateRemoteAccessVpn) -> Async:
    address = call.lookup(PublicIp, params.publicipid, "publicipid")
    if params.account is not None and call.owner(params.account, params.domainid).id != address.account_id:
        raise ParameterError(f"account: IP address {address.address} belongs to another account than {params.account}")
    settings, session = call.configuration, call.session
    text = params.iprange or settings.get(session, vpnsettings.CLIENT_RANGE, account=address.account_id)
    row = remoteaccess.create(
        session,
        call.runtime.secrets,
        call.runtime.authority,
        address,
        clients=remoteaccess.parse_range(text),
        psk=remoteaccess.new_psk(settings.get_int(session, vpnsettings.PSK_LENGTH)),
        server_name=remoteaccess.parse_name(params.servername, address.address) if params.servername else None,
        open_firewall=params.openfirewall,
        for_display=params.fordisplay,
    )
    return _pushed(call, row, f"creating remote access VPN on {address.address}", "remoteaccess.created")


def _pushed(call: Call, row: RemoteAccessVpn, text: str, completion: str) -> Async:
    return Async(
        "RemoteAccessVpn",
        row.id,
        text,
        target=desire_network(call.session, row.network_id),
        completion=completion,
        arguments={"vpn_id": row.id},
    )


@jobs.completion("remoteaccess.created")
@jobs.completion("remoteaccess.changed")
def _running(session: Session, job: AsyncJob, *, vpn_id: str) -> Response:
    row = session.get(RemoteAccessVpn, vpn_id)
    if row is None or row.state == vpn.REMOVED:
        return Success()
    row.state = "Running"
    # sealed: the result is kept with the job
    return show_remote_access(session, [row], as_text)[0]


@jobs.reversal("remoteaccess.created")
def _not_created(session: Session, job: AsyncJob, *, vpn_id: str) -> None:
    row = session.get(RemoteAccessVpn, vpn_id)
    if row is not None:
        session.delete(row)


@command(
    "updateRemoteAccessVpn",
    description="Changes how a remote access VPN is shown, and what IKEv2 clients know it by",
    params=UpdateRemoteAccessVpn,
    response=RemoteAccessVpnResponse,
    object_name="remoteaccessvpn",
    is_async=True,
    event="VPN.REMOTE.ACCESS.UPDATE",
)
def update_remote_access_vpn(call: Call, params: UpdateRemoteAccessVpn) -> Async:
    row = call.lookup(RemoteAccessVpn, params.id)
    remoteaccess.need(row)
    if params.fordisplay is not None:
        row.for_display = params.fordisplay
    if params.servername is not None:
        name = remoteaccess.parse_name(params.servername, row.public_ip.address)
        if name != row.server_name:
            row.server_name = name
            remoteaccess.certify(row, call.runtime.secrets, call.runtime.authority)
    return _pushed(call, row, f"updating remote access VPN on {row.public_ip.address}", "remoteaccess.changed")


@command(
    "deleteRemoteAccessVpn",
    description="Ends a remote access VPN and all its connections; the account's VPN users stay",
    params=DeleteRemoteAccessVpn,
    is_async=True,
    event="VPN.REMOTE.ACCESS.DESTROY",
)
def delete_remote_access_vpn(call: Call, params: DeleteRemoteAccessVpn) -> Async:
    address = call.lookup(PublicIp, params.publicipid, "publicipid")
    row = call.session.scalars(select(RemoteAccessVpn).where(RemoteAccessVpn.public_ip_id == address.id)).one_or_none()
    if row is None:
        raise ParameterError(f"publicipid: IP address {address.address} has no remote access VPN")
    row.state = vpn.REMOVED
    return _pushed(call, row, f"deleting remote access VPN on {address.address}", "remoteaccess.deleted")


@jobs.completion("remoteaccess.deleted")
def _deleted(session: Session, job: AsyncJob, *, vpn_id: str) -> Response:
    remoteaccess.remove(session, vpn_id)
    return Success()


@command(
    "listRemoteAccessVpns",
    description="Lists remote access VPNs with their preshared keys",
    params=ListRemoteAccessVpns,
    response=RemoteAccessVpnResponse,
    object_name="remoteaccessvpn",
)
def list_remote_access_vpns(call: Call, params: ListRemoteAccessVpns) -> tuple[int, list[RemoteAccessVpnResponse]]:
    statement = select(RemoteAccessVpn).order_by(RemoteAccessVpn.created, RemoteAccessVpn.id)
    statement = listing.scope(call, statement, RemoteAccessVpn.account_id, params, by_id=params.id is not None)
    statement = listing.displayed(call, statement, RemoteAccessVpn.for_display, params.fordisplay)
    for column, value in (
        (RemoteAccessVpn.id, params.id),
        (RemoteAccessVpn.public_ip_id, params.publicipid),
        (RemoteAccessVpn.network_id, params.networkid),
    ):
        if value is not None:
            statement = statement.where(column == value)
    return listing.fetch(
        call, statement, params, lambda rows: list(show_remote_access(call.session, rows, call.runtime.secrets.open))
    )
