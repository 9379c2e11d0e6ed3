"""Permissions of networks: letting VMs of other accounts be on a network of one's own."""

from __future__ import annotations

from sqlalchemy import delete, select

from controlplane.api import listing
from controlplane.api.call import Call
from controlplane.api.command import USER, ListParams, Params, Response, Success, command, param, shown
from controlplane.errors import ParameterError, PermissionDeniedError, unknown_id
from controlplane.network import access
from controlplane.store.models import Account, Network, NetworkPermission


class NetworkId(Params):
    networkid: str = param("id of the network", entity="Network")


class Accounts(NetworkId):
    accountids: list[str] | None = param("ids of accounts", default=None)
    accounts: list[str] | None = param("names of accounts in the domain of the network's owner", default=None)


class ListNetworkPermissions(ListParams):
    networkid: str = param("id of the network", entity="Network")


class NetworkPermissionResponse(Response):
    """An account that may use a network."""

    networkid: str = shown("id of the network", ...)
    accountid: str = shown("id of the account", ...)
    account: str = shown("name of the account", ...)
    domainid: str = shown("id of the account's domain", ...)
    domain: str = shown("name of the account's domain", ...)


def _network(call: Call, params: NetworkId | ListNetworkPermissions) -> Network:
    network = call.lookup(Network, params.networkid, "networkid")
    if network.state == "Destroy":
        raise ParameterError(f"network {network.name} is being deleted")
    return network


def _accounts(call: Call, network: Network, params: Accounts) -> list[Account]:
    """The accounts that a command names. Users name those of their own domain only."""
    found = []
    for id in params.accountids or ():
        account = call.session.get(Account, id)
        if account is None or account.removed is not None:
            raise unknown_id("accountids", id)
        found.append(account)
    for name in params.accounts or ():
        statement = select(Account).where(
            Account.name == name, Account.domain_id == network.account.domain_id, Account.removed.is_(None)
        )
        account = call.session.scalars(statement).one_or_none()
        if account is None:
            raise ParameterError(f"accounts: there is no account {name} in the domain of network {network.name}")
        found.append(account)
    if not found:
        raise ParameterError("accountids or accounts must be given")
    for account in found:
        if call.account.type == USER and account.domain_id != call.account.domain_id:
            raise PermissionDeniedError("accounts of other domains are for administrators to name")
        if call.account.type != USER:
            call.check_domain(account.domain)
    return found


@command(
    "createNetworkPermissions",
    description="Lets VMs of other accounts be on a network",
    params=Accounts,
    event="NETWORK.PERMISSION.UPDATE",
)
def create_network_permissions(call: Call, params: Accounts) -> Success:
    network = _network(call, params)
    accounts = _accounts(call, network, params)
    access.permit(call.session, network, accounts)
    _tell(call, network, f"permitted {', '.join(account.name for account in accounts)} to use")
    return Success()


@command(
    "removeNetworkPermissions",
    description="Ends permissions of a network; VMs that are on it stay",
    params=Accounts,
    event="NETWORK.PERMISSION.UPDATE",
)
def remove_network_permissions(call: Call, params: Accounts) -> Success:
    network = _network(call, params)
    accounts = _accounts(call, network, params)
    ids = [account.id for account in accounts]
    rows = (NetworkPermission.network_id == network.id) & NetworkPermission.account_id.in_(ids)
    call.session.execute(delete(NetworkPermission).where(rows))
    _tell(call, network, f"ended the permission of {', '.join(account.name for account in accounts)} to use")
    return Success()


@command(
    "resetNetworkPermissions",
    description="Ends all permissions of a network; VMs that are on it stay",
    params=NetworkId,
    event="NETWORK.PERMISSION.UPDATE",
)
def reset_network_permissions(call: Call, params: NetworkId) -> Success:
    network = _network(call, params)
    call.session.execute(delete(NetworkPermission).where(NetworkPermission.network_id == network.id))
    _tell(call, network, "ended all permissions to use")
    return Success()


def _tell(call: Call, network: Network, what: str) -> None:
    call.event(f"{what} network {network.name}", ("Network", network.id), account_id=network.account_id)


@command(
    "listNetworkPermissions",
    description="Lists the accounts that may use a network beside its own",
    params=ListNetworkPermissions,
    response=NetworkPermissionResponse,
    object_name="networkpermission",
)
def list_network_permissions(call: Call, params: ListNetworkPermissions) -> tuple[int, list[NetworkPermissionResponse]]:
    network = _network(call, params)
    statement = (
        select(NetworkPermission)
        .join(Account, Account.id == NetworkPermission.account_id)
        .where(NetworkPermission.network_id == network.id, Account.removed.is_(None))
        .order_by(Account.name, Account.id)
    )
    statement = listing.search(statement, params.keyword, Account.name)
    return listing.fetch(call, statement, params, lambda rows: [_show(row) for row in rows])


def _show(row: NetworkPermission) -> NetworkPermissionResponse:
    domain = row.account.domain
    return NetworkPermissionResponse(
        networkid=row.network_id,
        accountid=row.account_id,
        account=row.account.name,
        domainid=domain.id,
        domain=domain.name,
    )
