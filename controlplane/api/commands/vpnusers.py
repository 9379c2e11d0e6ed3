"""VPN users: who may connect to an account's remote access VPNs (guide: chapter 15.17.1)."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from controlplane import jobs
from controlplane.api import listing
from controlplane.api.call import Call
from controlplane.api.command import Async, Params, Response, ScopedListParams, Success, command, param
from controlplane.api.views.remoteaccess import VpnUserResponse, show_users
from controlplane.convergence.desired import desire_network
from controlplane.network import remoteaccess, vpnsettings, vpnusers
from controlplane.store.models import AsyncJob, VpnUser


class _User(Params):
    username: str = param("name of the VPN user", length=64)
    account: str | None = param("account that the user belongs to; needs domainid", default=None)
    domainid: str | None = param("domain of the account", default=None, entity="Domain")


class AddVpnUser(_User):
    password: str = param("password of the VPN user", length=128, secret=True)


class ListVpnUsers(ScopedListParams):
    id: str | None = param("id of the VPN user", default=None, entity="VpnUser")
    username: str | None = param("the one with this name", default=None)


@command(
    "addVpnUser",
    description="Lets somebody connect to an account's remote access VPNs",
    params=AddVpnUser,
    response=VpnUserResponse,
    object_name="vpnuser",
    is_async=True,
    creates=True,
    event="VPN.USER.ADD",
)
def add_vpn_user(call: Call, params: AddVpnUser) -> Async:
    account = call.owner(params.account, params.domainid)
    limit = call.configuration.get_int(call.session, vpnsettings.USER_LIMIT)
    user = vpnusers.add(
        call.session,
        call.runtime.secrets,
        account,
        name=params.username,
        password=params.password,
        limit=limit,
    )
    return _pushed(call, user, f"adding VPN user {user.name}", "vpnuser.added")


def _pushed(call: Call, user: VpnUser, text: str, completion: str) -> Async:
    """The job that ends when the routers of all the account's VPNs have followed."""
    rows = remoteaccess.of_account(call.session, user.account_id)
    routers = [target for row in rows if (target := desire_network(call.session, row.network_id)) is not None]
    return Async(
        "VpnUser",
        user.id,
        text,
        workflow="reach_routers" if routers else None,
        completion=completion,
        arguments={"routers": [list(target) for target in routers]} if routers else {"user_id": user.id},
        completion_arguments={"user_id": user.id},
    )


@jobs.completion("vpnuser.added")
def _added(session: Session, job: AsyncJob, *, user_id: str) -> Response:
    user = vpnusers.activate(session, user_id)
    return show_users(session, [user])[0] if user is not None else Success()


@jobs.reversal("vpnuser.added")
def _not_added(session: Session, job: AsyncJob, *, user_id: str) -> None:
    user = session.get(VpnUser, user_id)
    if user is not None:
        for row in remoteaccess.of_account(session, user.account_id):
            desire_network(session, row.network_id)
        session.delete(user)


@command(
    "removeVpnUser",
    description="Takes a VPN user away and ends the user's connections",
    params=_User,
    is_async=True,
    event="VPN.USER.REMOVE",
)
def remove_vpn_user(call: Call, params: _User) -> Async:
    user = vpnusers.find(call.session, call.owner(params.account, params.domainid), params.username)
    user.state = vpnusers.REVOKED
    return _pushed(call, user, f"removing VPN user {user.name}", "vpnuser.removed")


@jobs.completion("vpnuser.removed")
def _removed(session: Session, job: AsyncJob, *, user_id: str) -> Response:
    vpnusers.remove(session, user_id)
    return Success()


@command(
    "listVpnUsers",
    description="Lists VPN users",
    params=ListVpnUsers,
    response=VpnUserResponse,
    object_name="vpnuser",
)
def list_vpn_users(call: Call, params: ListVpnUsers) -> tuple[int, list[VpnUserResponse]]:
    statement = select(VpnUser).order_by(VpnUser.created, VpnUser.id)
    statement = listing.scope(call, statement, VpnUser.account_id, params, by_id=params.id is not None)
    for column, value in ((VpnUser.id, params.id), (VpnUser.name, params.username)):
        if value is not None:
            statement = statement.where(column == value)
    statement = listing.search(statement, params.keyword, VpnUser.name)
    return listing.fetch(call, statement, params, lambda rows: list(show_users(call.session, rows)))
