"""Users and their API keys."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from sqlalchemy import select

from controlplane.api import listing
from controlplane.api.call import Call
from controlplane.api.command import (
    ADMINS,
    ROOT,
    Params,
    Response,
    ScopedListParams,
    Success,
    command,
    param,
    shown,
)
from controlplane.api.passwords import check_password, hash_password, new_api_key
from controlplane.errors import ParameterError, PermissionDeniedError
from controlplane.store.defaults import ADMIN_USER_ID, SYSTEM_ACCOUNT_ID
from controlplane.store.models import Account, User, now


class UserResponse(Response):
    id: str = shown("the user ID", ...)
    username: str = shown("the user name", ...)
    firstname: str = shown("the user firstname", ...)
    lastname: str = shown("the user lastname", ...)
    email: str = shown("the user email address", ...)
    created: datetime = shown("the date and time the user account was created", ...)
    state: str = shown("the user state", ...)
    account: str = shown("the account name of the user", ...)
    accountid: str = shown("the account ID of the user", ...)
    accounttype: int = shown("the account type of the user", ...)
    domainid: str = shown("the domain ID of the user", ...)
    domain: str = shown("the domain name of the user", ...)
    timezone: str = shown("the timezone user was created in", ...)
    apikey: str | None = shown("the api key of the user")
    iscallerchilddomain: bool = shown(
        "the boolean value representing if the updating target is in caller's child domain", ...
    )
    isdefault: bool = shown("true if user is default, false otherwise", ...)


def show_users(call: Call, users: Sequence[User]) -> list[UserResponse]:
    own = call.account.domain
    return [
        UserResponse(
            id=user.id,
            username=user.username,
            firstname=user.firstname,
            lastname=user.lastname,
            email=user.email,
            created=user.created,
            state=user.state,
            account=user.account.name,
            accountid=user.account_id,
            accounttype=user.account.type,
            domainid=user.account.domain_id,
            domain=user.account.domain.name,
            timezone=user.timezone,
            apikey=user.api_key,
            iscallerchilddomain=user.account.domain.path.startswith(f"{own.path}/"),
            isdefault=user.id == ADMIN_USER_ID,
        )
        for user in users
    ]


class ListUsers(ScopedListParams):
    id: str | None = param("List user by ID.", default=None, entity="User")
    username: str | None = param("List user by the username", default=None)
    accounttype: int | None = param("List users by account type.", default=None, minimum=0, maximum=2)
    state: str | None = param("List users by state of the user account.", default=None)


@command(
    "listUsers",
    description="Lists user accounts",
    params=ListUsers,
    response=UserResponse,
    object_name="user",
)
def list_users(call: Call, params: ListUsers) -> tuple[int, list[UserResponse]]:
    statement = select(User).join(Account).where(User.removed.is_(None), Account.id != SYSTEM_ACCOUNT_ID)
    accounts = listing.accounts_in_scope(call, params, everything=True)
    if accounts is not None:
        statement = statement.where(Account.id.in_(accounts))
    if params.id is not None:
        statement = statement.where(User.id == call.lookup(User, params.id).id)
    if params.username is not None:
        statement = statement.where(User.username == params.username)
    if params.accounttype is not None:
        statement = statement.where(Account.type == params.accounttype)
    if params.state is not None:
        statement = statement.where(User.state == params.state.lower())
    statement = listing.search(statement, params.keyword, User.username).order_by(User.username, User.id)
    return listing.fetch(call, statement, params, lambda rows: show_users(call, rows))


class CreateUser(Params):
    username: str = param("Unique username in its domain.")
    password: str = param("Password of the user.", secret=True)
    account: str = param("Account that the user will belong to.")
    email: str = param("email")
    firstname: str = param("firstname")
    lastname: str = param("lastname")
    domainid: str | None = param("Domain of the account; the caller's by default.", default=None, entity="Domain")
    timezone: str = param("Time zone of the user, e.g. Asia/Tokyo.", default="UTC", length=64)


@command(
    "createUser",
    description="Creates a user for an account that already exists",
    params=CreateUser,
    response=UserResponse,
    object_name="user",
    roles=ADMINS,
    event="USER.CREATE",
)
def create_user(call: Call, params: CreateUser) -> UserResponse:
    user = make_user(
        call,
        call.owner(params.account, params.domainid),
        username=params.username,
        password=params.password,
        email=params.email,
        firstname=params.firstname,
        lastname=params.lastname,
        timezone=params.timezone,
    )
    call.event(f"Successfully created user {user.username} of account {params.account}", ("User", user.id))
    return show_users(call, [user])[0]


def make_user(
    call: Call,
    account: Account,
    *,
    username: str,
    password: str,
    email: str,
    firstname: str,
    lastname: str,
    timezone: str,
) -> User:
    """Add a user. Raises ParameterError when the name is taken in the domain or the time zone is unknown."""
    _check_username(call, account, username)
    _check_timezone(timezone)
    user = User(
        account_id=account.id,
        username=username,
        password_hash=hash_password(password),
        email=email,
        firstname=firstname,
        lastname=lastname,
        timezone=timezone,
    )
    call.session.add(user)
    call.session.flush()
    return user


def _check_username(call: Call, account: Account, username: str) -> None:
    taken = (
        select(User.id)
        .join(Account)
        .where(Account.domain_id == account.domain_id, User.username == username, User.removed.is_(None))
    )
    if call.session.scalar(taken) is not None:
        raise ParameterError(f"The user {username} already exists in domain {account.domain.path}")


def _check_timezone(name: str) -> None:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ParameterError(f"timezone {name[:64]} is not known; use a name such as UTC or Asia/Tokyo") from None


class UpdateUser(Params):
    id: str = param("User uuid", entity="User")
    username: str | None = param("Unique username", default=None)
    firstname: str | None = param("first name", default=None)
    lastname: str | None = param("last name", default=None)
    email: str | None = param("email", default=None)
    timezone: str | None = param("Time zone of the user", default=None, length=64)
    password: str | None = param("New password", default=None, secret=True)
    currentpassword: str | None = param(
        "Current password; needed to change one's own unless one is a root administrator", default=None, secret=True
    )
    userapikey: str | None = param("The API key for the user. Must be given with usersecretkey", default=None)
    usersecretkey: str | None = param(
        "The secret key for the user. Must be given with userapikey", default=None, secret=True
    )


@command(
    "updateUser",
    description="Updates a user account",
    params=UpdateUser,
    response=UserResponse,
    object_name="user",
    event="USER.UPDATE",
)
def update_user(call: Call, params: UpdateUser) -> UserResponse:
    user = _manageable(call, params.id)
    if params.username is not None and params.username != user.username:
        _check_username(call, user.account, params.username)
        user.username = params.username
    if params.timezone is not None:
        _check_timezone(params.timezone)
    for field in ("firstname", "lastname", "email", "timezone"):
        value = getattr(params, field)
        if value is not None:
            setattr(user, field, value)
    if params.password is not None:
        _change_password(call, user, params.password, params.currentpassword)
    if (params.userapikey is None) != (params.usersecretkey is None):
        raise ParameterError("userapikey and usersecretkey must be given together")
    if params.userapikey is not None and params.usersecretkey is not None:
        _set_keys(call, user, params.userapikey, params.usersecretkey)
    call.event(f"Successfully updated user {user.username}", ("User", user.id))
    return show_users(call, [user])[0]


def _change_password(call: Call, user: User, new: str, current: str | None) -> None:
    if user.id == call.user.id and not call.is_root and not check_password(current or "", user.password_hash):
        raise PermissionDeniedError("currentpassword is not the current password")
    user.password_hash = hash_password(new)
    call.end_logins(user.id, "the user's password was changed")


def _set_keys(call: Call, user: User, api_key: str, secret_key: str) -> None:
    if not call.is_root:
        raise PermissionDeniedError("only a root administrator can choose keys; registerUserKeys makes them")
    if len(api_key) < 16 or len(secret_key) < 16:
        raise ParameterError("userapikey and usersecretkey need 16 characters or more")
    if call.session.scalar(select(User.id).where(User.api_key == api_key, User.id != user.id)) is not None:
        raise ParameterError("The api key is used by another user")
    user.api_key, user.secret_key = api_key, call.runtime.secrets.seal(secret_key)


def _manageable(call: Call, user_id: str) -> User:
    """A user that the caller may change: oneself, or one of an account that the caller administers."""
    user = call.lookup(User, user_id)
    if user.id != call.user.id and call.account.type not in ADMINS:
        raise PermissionDeniedError("only administrators can act on other users")
    if user.account_id == SYSTEM_ACCOUNT_ID:
        raise PermissionDeniedError("system users cannot be changed")
    return user


class DeleteUser(Params):
    id: str = param("id of the user to be deleted", entity="User")


@command(
    "deleteUser", description="Deletes a user for an account", params=DeleteUser, roles=ADMINS, event="USER.DELETE"
)
def delete_user(call: Call, params: DeleteUser) -> Success:
    user = _manageable(call, params.id)
    if user.id in (ADMIN_USER_ID, call.user.id):
        raise PermissionDeniedError("The user is a system user, or the calling one, and cannot be deleted")
    call.end_logins(user.id, "the user was deleted")
    user.api_key, user.secret_key, user.removed = None, None, now()
    call.event(f"Successfully deleted user {user.username}", ("User", user.id))
    return Success()


class DisableUser(Params):
    id: str = param("id of the user", entity="User")


@command(
    "disableUser",
    description="Disables a user account; it cannot log in or sign requests until it is enabled",
    params=DisableUser,
    response=UserResponse,
    object_name="user",
    roles=ADMINS,
    event="USER.DISABLE",
)
def disable_user(call: Call, params: DisableUser) -> UserResponse:
    user = _manageable(call, params.id)
    if user.id in (ADMIN_USER_ID, call.user.id):
        raise PermissionDeniedError("The user is a system user, or the calling one, and cannot be disabled")
    user.state = "disabled"
    call.end_logins(user.id, "the user was disabled")
    call.event(f"Successfully disabled user {user.username}", ("User", user.id))
    return show_users(call, [user])[0]


@command(
    "enableUser",
    description="Enables a user account",
    params=DisableUser,
    response=UserResponse,
    object_name="user",
    roles=ADMINS,
    event="USER.ENABLE",
)
def enable_user(call: Call, params: DisableUser) -> UserResponse:
    user = _manageable(call, params.id)
    user.state = "enabled"
    call.event(f"Successfully enabled user {user.username}", ("User", user.id))
    return show_users(call, [user])[0]


class GetUser(Params):
    userapikey: str = param("API key of the user")


@command(
    "getUser",
    description="Find user account by API key",
    params=GetUser,
    response=UserResponse,
    object_name="user",
    roles=ROOT,
)
def get_user(call: Call, params: GetUser) -> UserResponse:
    user = call.session.scalars(select(User).where(User.api_key == params.userapikey)).one_or_none()
    if user is None:
        raise ParameterError("User with specified API key does not exist")
    call.check_account(user.account)
    return show_users(call, [user])[0]


class UserKeysResponse(Response):
    apikey: str | None = shown("the api key of the registered user")
    secretkey: str | None = shown("the secret key of the registered user")


class UserKeys(Params):
    id: str = param("User id", entity="User")


@command(
    "getUserKeys",
    description="This command allows the user to query the secret and API keys for the account",
    params=UserKeys,
    response=UserKeysResponse,
    object_name="userkeys",
)
def get_user_keys(call: Call, params: UserKeys) -> UserKeysResponse:
    user = _manageable(call, params.id)
    secret = call.runtime.secrets.open(user.secret_key) if user.secret_key is not None else None
    return UserKeysResponse(apikey=user.api_key, secretkey=secret)


@command(
    "registerUserKeys",
    description="Gives a user new API and secret keys; the old ones stop working at once",
    params=UserKeys,
    response=UserKeysResponse,
    object_name="userkeys",
    event="REGISTER.USER.KEY",
)
def register_user_keys(call: Call, params: UserKeys) -> UserKeysResponse:
    user = _manageable(call, params.id)
    secret = new_api_key()
    user.api_key, user.secret_key = new_api_key(), call.runtime.secrets.seal(secret)
    call.event(f"Successfully registered keys for user {user.username}", ("User", user.id))
    return UserKeysResponse(apikey=user.api_key, secretkey=secret)
