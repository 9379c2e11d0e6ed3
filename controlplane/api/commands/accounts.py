"""Accounts: listAccounts, createAccount, updateAccount, deleteAccount, and the roles they can have."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import ColumnElement, delete, func, select
from sqlalchemy.orm import InstrumentedAttribute

from controlplane.api import listing
from controlplane.api.call import Call
from controlplane.api.command import (
    ADMINS,
    DOMAIN_ADMIN,
    ROOT_ADMIN,
    USER,
    Async,
    ListParams,
    Params,
    Response,
    ScopedListParams,
    command,
    param,
    shown,
)
from controlplane.api.commands.users import UserResponse, make_user, show_users
from controlplane.errors import InUseError, ParameterError, PermissionDeniedError
from controlplane.network import addressing
from controlplane.network.limits import NETWORKS, PUBLIC_IPS, TEMPLATES, VMS
from controlplane.securitygroups import desired, groups
from controlplane.storage.settings import SNAPSHOTS, VOLUMES
from controlplane.store.defaults import ADMIN_ACCOUNT_ID, SYSTEM_ACCOUNT_ID
from controlplane.store.models import (
    Account,
    Appliance,
    Domain,
    Network,
    PublicIp,
    SecurityGroup,
    Snapshot,
    SshKeyPair,
    SslCertificate,
    Template,
    TemplatePermission,
    User,
    Vm,
    Volume,
    VpnCustomerGateway,
    VpnUser,
    now,
)

#: Roles are the account types by another name; their ids never change.
ROLES = {
    ROOT_ADMIN: ("00000000-0000-4000-8000-000000000021", "Root Admin", "Admin"),
    DOMAIN_ADMIN: ("00000000-0000-4000-8000-000000000022", "Domain Admin", "DomainAdmin"),
    USER: ("00000000-0000-4000-8000-000000000023", "User", "User"),
}


class AccountResponse(Response):
    id: str = shown("the id of the account", ...)
    name: str = shown("the name of the account", ...)
    accounttype: int = shown("account type: 0 user, 1 root administrator, 2 domain administrator", ...)
    roleid: str = shown("the ID of the role", ...)
    rolename: str = shown("the name of the role", ...)
    roletype: str = shown("the type of the role", ...)
    domainid: str = shown("id of the Domain the account belongs to", ...)
    domain: str = shown("name of the Domain the account belongs to", ...)
    domainpath: str = shown("path of the Domain the account belongs to", ...)
    state: str = shown("the state of the account", ...)
    networkdomain: str | None = shown("the network domain")
    isdefault: bool = shown("true if account is default, false otherwise", ...)
    created: datetime = shown("the date when this account was created", ...)
    vmlimit: str = shown("the total number of virtual machines that can be deployed by this account", ...)
    vmtotal: int = shown("the total number of virtual machines deployed by this account", ...)
    vmavailable: str = shown("the total number of virtual machines available for this account to acquire", ...)
    iplimit: str = shown("the total number of public ip addresses this account can acquire", ...)
    iptotal: int = shown("the total number of public ip addresses allocated for this account", ...)
    ipavailable: str = shown("the total number of public ip addresses available for this account to acquire", ...)
    networklimit: str = shown("the total number of networks the account can own", ...)
    networktotal: int = shown("the total number of networks owned by account", ...)
    networkavailable: str = shown("the total number of networks available to be created for this account", ...)
    volumelimit: str = shown("the total volume which can be used by this account", ...)
    volumetotal: int = shown("the total volume being used by this account", ...)
    volumeavailable: str = shown("the total volume available for this account", ...)
    snapshotlimit: str = shown("the total number of snapshots which can be stored by this account", ...)
    snapshottotal: int = shown("the total number of snapshots stored by this account", ...)
    snapshotavailable: str = shown("the total number of snapshots available for this account", ...)
    templatelimit: str = shown("the total number of templates and ISOs the account can have", ...)
    templatetotal: int = shown("the total number of templates and ISOs of the account", ...)
    templateavailable: str = shown("the total number of templates and ISOs left for the account", ...)
    user: list[UserResponse] = shown("the list of users associated with account", ...)


class ListAccounts(ScopedListParams):
    id: str | None = param("list account by account ID", default=None, entity="Account")
    name: str | None = param("list account by account name", default=None)
    accounttype: int | None = param("list accounts by account type", default=None, minimum=0, maximum=2)
    state: str | None = param("list accounts by state: enabled, disabled or locked", default=None)


@command(
    "listAccounts",
    description="Lists accounts and provides detailed account information for listed accounts",
    params=ListAccounts,
    response=AccountResponse,
    object_name="account",
)
def list_accounts(call: Call, params: ListAccounts) -> tuple[int, list[AccountResponse]]:
    statement = select(Account).where(Account.removed.is_(None), Account.id != SYSTEM_ACCOUNT_ID)
    # administrators look for accounts rather than at their own, so this list is not restricted to it
    accounts = listing.accounts_in_scope(call, params, everything=True)
    if accounts is not None:
        statement = statement.where(Account.id.in_(accounts))
    if params.id is not None:
        statement = statement.where(Account.id == call.lookup(Account, params.id).id)
    if params.name is not None:
        statement = statement.where(Account.name == params.name)
    if params.accounttype is not None:
        statement = statement.where(Account.type == params.accounttype)
    if params.state is not None:
        statement = statement.where(Account.state == params.state.lower())
    statement = listing.search(statement, params.keyword, Account.name).order_by(Account.name, Account.id)
    return listing.fetch(call, statement, params, lambda rows: show_accounts(call, rows))


def show_accounts(call: Call, accounts: Sequence[Account]) -> list[AccountResponse]:
    """Responses for accounts, with counts of what they use."""
    session, ids = call.session, [account.id for account in accounts]
    vms = _count(call, Vm.account_id, ids, Vm.removed.is_(None) & Vm.state.not_in(("Destroyed", "Expunging", "Error")))
    ips = _count(call, PublicIp.account_id, ids, PublicIp.id.is_not(None))
    networks = _count(call, Network.account_id, ids, Network.removed.is_(None))
    volumes = _count(call, Volume.account_id, ids, Volume.removed.is_(None) & (Volume.state != "Destroy"))
    snapshots = _count(call, Snapshot.account_id, ids, Snapshot.removed.is_(None) & (Snapshot.state != "Error"))
    templates = _count(call, Template.account_id, ids, Template.removed.is_(None))
    users: dict[str, list[User]] = {}
    for user in session.scalars(select(User).where(User.account_id.in_(ids), User.removed.is_(None))):
        users.setdefault(user.account_id, []).append(user)
    answers = []
    for account in accounts:
        role = ROLES[account.type]
        vm, ip, network = vms.get(account.id, 0), ips.get(account.id, 0), networks.get(account.id, 0)
        vm_limit, vm_left = _limit(call, account, VMS, vm)
        ip_limit, ip_left = _limit(call, account, PUBLIC_IPS, ip)
        network_limit, network_left = _limit(call, account, NETWORKS, network)
        volume, snapshot = volumes.get(account.id, 0), snapshots.get(account.id, 0)
        volume_limit, volume_left = _limit(call, account, VOLUMES, volume)
        snapshot_limit, snapshot_left = _limit(call, account, SNAPSHOTS, snapshot)
        template = templates.get(account.id, 0)
        template_limit, template_left = _limit(call, account, TEMPLATES, template)
        answers.append(
            AccountResponse(
                id=account.id,
                name=account.name,
                accounttype=account.type,
                roleid=role[0],
                rolename=role[1],
                roletype=role[2],
                domainid=account.domain_id,
                domain=account.domain.name,
                domainpath=account.domain.path,
                state=account.state,
                networkdomain=account.network_domain,
                isdefault=account.id == ADMIN_ACCOUNT_ID,
                created=account.created,
                vmlimit=vm_limit,
                vmtotal=vm,
                vmavailable=vm_left,
                iplimit=ip_limit,
                iptotal=ip,
                ipavailable=ip_left,
                networklimit=network_limit,
                networktotal=network,
                networkavailable=network_left,
                volumelimit=volume_limit,
                volumetotal=volume,
                volumeavailable=volume_left,
                snapshotlimit=snapshot_limit,
                snapshottotal=snapshot,
                snapshotavailable=snapshot_left,
                templatelimit=template_limit,
                templatetotal=template,
                templateavailable=template_left,
                user=show_users(call, users.get(account.id, [])),
            )
        )
    return answers


def _count(
    call: Call, owner: InstrumentedAttribute[str], ids: list[str], condition: ColumnElement[bool]
) -> dict[str, int]:
    statement = select(owner, func.count()).where(owner.in_(ids), condition).group_by(owner)
    return {row[0]: row[1] for row in call.session.execute(statement)}


def _limit(call: Call, account: Account, setting: str, used: int) -> tuple[str, str]:
    limit = call.configuration.get_int(call.session, setting, account=account.id, domain=account.domain_id)
    if limit < 0 or account.type == ROOT_ADMIN:
        return "Unlimited", "Unlimited"
    return str(limit), str(max(limit - used, 0))


class CreateAccount(Params):
    username: str = param("Unique username in its domain.")
    password: str = param("Password of the user.", secret=True)
    email: str = param("email")
    firstname: str = param("firstname")
    lastname: str = param("lastname")
    account: str | None = param("Name of the account; the username when not given.", default=None)
    accounttype: int | None = param(
        "Type of the account: 0 user (default), 1 root administrator, 2 domain administrator.",
        default=None,
        minimum=0,
        maximum=2,
    )
    roleid: str | None = param("Role of the account, instead of accounttype.", default=None, entity="Role")
    domainid: str | None = param("Domain of the account; the caller's by default.", default=None, entity="Domain")
    networkdomain: str | None = param("Network domain for the account's networks.", default=None)
    timezone: str = param("Time zone of the user, e.g. Asia/Tokyo.", default="UTC", length=64)


@command(
    "createAccount",
    description="Creates an account and its first user",
    params=CreateAccount,
    response=AccountResponse,
    object_name="account",
    roles=ADMINS,
    event="ACCOUNT.CREATE",
    post_only=False,
)
def create_account(call: Call, params: CreateAccount) -> AccountResponse:
    domain = call.lookup(Domain, params.domainid, "domainid") if params.domainid else call.account.domain
    kind = _account_type(params.accounttype, params.roleid)
    if kind == ROOT_ADMIN and not call.is_root:
        raise PermissionDeniedError("only a root administrator can create one")
    name = params.account or params.username
    _check_free(call, domain.id, name)
    if params.networkdomain:
        addressing.check_domain("networkdomain", params.networkdomain)
    account = Account(name=name, domain_id=domain.id, type=kind, network_domain=params.networkdomain)
    call.session.add(account)
    call.session.flush()
    make_user(
        call,
        account,
        username=params.username,
        password=params.password,
        email=params.email,
        firstname=params.firstname,
        lastname=params.lastname,
        timezone=params.timezone,
    )
    groups.default_of(call.session, account.id)
    call.event(f"Successfully created account {name} in domain {domain.path}", ("Account", account.id))
    return show_accounts(call, [account])[0]


def _account_type(kind: int | None, role: str | None) -> int:
    if role is None:
        return kind if kind is not None else USER
    by_role = [number for number, (role_id, _, _) in ROLES.items() if role_id == role]
    if not by_role:
        raise ParameterError(f"Unable to find role by id {role}; listRoles shows them")
    if kind not in (None, by_role[0]):
        raise ParameterError("parameters accounttype and roleid contradict each other; give one of them")
    return by_role[0]


def _check_free(call: Call, domain_id: str, name: str) -> None:
    taken = select(Account.id).where(Account.domain_id == domain_id, Account.name == name, Account.removed.is_(None))
    if call.session.scalar(taken) is not None:
        raise ParameterError(f"The specified account: {name} already exists")


class UpdateAccount(Params):
    id: str | None = param("Account id", default=None, entity="Account")
    account: str | None = param("Current account name, with domainid, instead of id", default=None)
    domainid: str | None = param("The id of the domain where the account exists", default=None, entity="Domain")
    newname: str | None = param("New name for the account", default=None)
    networkdomain: str | None = param(
        "Network domain for the account's networks; empty to clear", default=None, clears=True
    )


def _target(call: Call, account_id: str | None, account: str | None, domainid: str | None) -> Account:
    if account_id is not None:
        return call.lookup(Account, account_id)
    if account is None:
        raise ParameterError("give the account's id, or parameters account and domainid")
    return call.owner(account, domainid)


@command(
    "updateAccount",
    description="Updates account information for the authenticated user",
    params=UpdateAccount,
    response=AccountResponse,
    object_name="account",
    roles=ADMINS,
    event="ACCOUNT.UPDATE",
)
def update_account(call: Call, params: UpdateAccount) -> AccountResponse:
    account = _target(call, params.id, params.account, params.domainid)
    if params.newname is not None and params.newname != account.name:
        _check_free(call, account.domain_id, params.newname)
        account.name = params.newname
    if params.networkdomain is not None:
        account.network_domain = addressing.parse_domain("networkdomain", params.networkdomain)
    call.event(f"Successfully updated account {account.name}", ("Account", account.id))
    return show_accounts(call, [account])[0]


class DeleteAccount(Params):
    id: str = param("Account id", entity="Account")


@command(
    "deleteAccount",
    description="Deletes an account and all users associated with it; it must own no networks, addresses or machines",
    params=DeleteAccount,
    roles=ADMINS,
    is_async=True,
    event="ACCOUNT.DELETE",
)
def delete_account(call: Call, params: DeleteAccount) -> Async:
    account = call.lookup(Account, params.id)
    if account.id in (ADMIN_ACCOUNT_ID, SYSTEM_ACCOUNT_ID):
        raise PermissionDeniedError("The account is a system account and cannot be deleted")
    if account.id == call.account.id:
        raise PermissionDeniedError("an account cannot delete itself")
    for what, owned in (
        ("virtual machines", select(Vm.id).where(Vm.account_id == account.id, Vm.removed.is_(None))),
        ("volumes", select(Volume.id).where(Volume.account_id == account.id, Volume.removed.is_(None))),
        ("snapshots", select(Snapshot.id).where(Snapshot.account_id == account.id, Snapshot.removed.is_(None))),
        ("networks", select(Network.id).where(Network.account_id == account.id, Network.removed.is_(None))),
        ("public addresses", select(PublicIp.id).where(PublicIp.account_id == account.id)),
        (
            "templates and ISOs",
            select(Template.id).where(Template.account_id == account.id, Template.removed.is_(None)),
        ),
        ("routers", select(Appliance.id).where(Appliance.account_id == account.id, Appliance.removed.is_(None))),
    ):
        if call.session.scalar(owned.limit(1)) is not None:
            raise InUseError(f"Account {account.name} still has {what}; delete them first")
    for user in call.session.scalars(select(User).where(User.account_id == account.id)):
        call.end_logins(user.id, "the account was deleted")
        user.api_key, user.secret_key, user.removed = None, None, user.removed or now()
    for pair in call.session.scalars(select(SshKeyPair).where(SshKeyPair.account_id == account.id)):
        call.session.delete(pair)
    # without networks no rule uses any
    for certificate in call.session.scalars(select(SslCertificate).where(SslCertificate.account_id == account.id)):
        call.session.delete(certificate)
    for model in (VpnUser, VpnCustomerGateway, TemplatePermission):
        call.session.execute(delete(model).where(model.account_id == account.id))
    for group in call.session.scalars(select(SecurityGroup).where(SecurityGroup.account_id == account.id)).all():
        groups.forget(call.session, group)
    account.removed = now()
    desired.desire(call.session)
    return Async("Account", account.id, f"deleting account {account.name}")


class RoleResponse(Response):
    id: str = shown("the ID of the role", ...)
    name: str = shown("the name of the role", ...)
    type: str = shown("the type of the role", ...)
    description: str = shown("the description of the role", ...)
    isdefault: bool = shown("true if role is default, false otherwise", True)
    ispublic: bool = shown("true if role is visible to everyone", True)


class ListRoles(ListParams):
    id: str | None = param("List role by role ID.", default=None, entity="Role")
    name: str | None = param("List role by role name.", default=None)
    type: str | None = param("List role by role type.", default=None)


@command(
    "listRoles",
    description="Lists the roles that accounts can have",
    params=ListRoles,
    response=RoleResponse,
    object_name="role",
    roles=ADMINS,
)
def list_roles(call: Call, params: ListRoles) -> tuple[int, list[RoleResponse]]:
    roles = [
        RoleResponse(id=role_id, name=name, type=kind, description=f"Default {name.lower()} role")
        for role_id, name, kind in ROLES.values()
        if params.id in (None, role_id)
        and params.name in (None, name)
        and params.type in (None, kind)
        and (params.keyword or "").lower() in name.lower()
    ]
    return listing.cut(call, roles, params)
