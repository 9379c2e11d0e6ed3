"""Profiles for the VPN clients of people's devices."""

from __future__ import annotations

from controlplane.api.call import Call
from controlplane.api.command import Params, Response, command, param, shown
from controlplane.errors import ParameterError
from controlplane.network import remoteaccess, vpnusers
from controlplane.store.models import RemoteAccessVpn
from controlplane.vpnprofiles.clients import PROFILES
from controlplane.vpnprofiles.model import Server

CLIENTS = tuple(dict.fromkeys(client for client, _ in PROFILES))
PROTOCOLS = tuple(dict.fromkeys(protocol for _, protocol in PROFILES))


class GetVpnClientProfile(Params):
    id: str = param("id of the remote access VPN", entity="RemoteAccessVpn")
    client: str = param("whose VPN client it is for", choices=CLIENTS)
    protocol: str = param("ikev2 or l2tp", default="ikev2", choices=PROTOCOLS)
    username: str | None = param("VPN user who will use it; asked for by the client unless given", default=None)


class VpnClientProfileResponse(Response):
    """A profile."""

    filename: str = shown("name for the file", ...)
    contenttype: str = shown("media type of the file", ...)
    content: str = shown("text of the file; it has no password", ...)
    howto: str = shown("what to do with it", ...)
    cafilename: str | None = shown("name for the file with the CA certificate")
    cacertificate: str | None = shown("CA certificate that signs the server's, PEM")


@command(
    "getVpnClientProfile",
    description="A ready-made profile of a remote access VPN for the client of a system",
    params=GetVpnClientProfile,
    response=VpnClientProfileResponse,
    object_name="vpnclientprofile",
)
def get_vpn_client_profile(call: Call, params: GetVpnClientProfile) -> VpnClientProfileResponse:
    row = call.lookup(RemoteAccessVpn, params.id)
    remoteaccess.need(row)
    make = PROFILES.get((params.client, params.protocol))
    if make is None:
        others = ", ".join(client for client, protocol in PROFILES if protocol == params.protocol)
        raise ParameterError(f"protocol: {params.protocol} is there for {others}, not for {params.client}")
    user = vpnusers.find(call.session, row.account, params.username) if params.username is not None else None
    server = Server(
        id=row.id,
        network_name=row.network.name,
        address=row.public_ip.address,
        identity=remoteaccess.identity(row),
        psk=call.runtime.secrets.open(row.psk),
        networks=(row.network.cidr,),
        authority=row.authority,
        username=user.name if user is not None else None,
    )
    profile = make(server)
    certified = params.protocol == "ikev2"
    return VpnClientProfileResponse(
        filename=profile.filename,
        contenttype=profile.content_type,
        content=profile.content,
        howto=profile.howto,
        cafilename=server.authority_file if certified else None,
        cacertificate=row.authority if certified else None,
    )
