"""login and logout."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from sqlalchemy import select

from controlplane.api import sessions
from controlplane.api.call import Call
from controlplane.api.command import Nothing, Params, Response, command, param, shown
from controlplane.api.passwords import check_password, token_hash
from controlplane.console import sessions as consoles
from controlplane.errors import ApiError, PermissionDeniedError
from controlplane.store.models import Account, Domain, User


class Login(Params):
    username: str = param("Username")
    password: str = param("Password", secret=True)
    domain: str | None = param(
        "Path of the domain that the user belongs to, e.g. /x/y; the ROOT domain without", default=None
    )
    domainid: str | None = param("The id of the domain that the user belongs to", default=None)


class LoginResponse(Response):
    username: str = shown("Username", ...)
    userid: str = shown("User id", ...)
    domainid: str = shown("Id of the user's domain", ...)
    timeout: int = shown("Seconds without a call after which the session ends", ...)
    account: str = shown("Name of the user's account", ...)
    firstname: str = shown("First name", ...)
    lastname: str = shown("Last name", ...)
    type: str = shown("Account type: 0 user, 1 root administrator, 2 domain administrator", ...)
    timezone: str = shown("Time zone of the user", ...)
    timezoneoffset: str = shown("Hours that the time zone is ahead of UTC", ...)
    registered: str = shown("Is the user registered", "false")
    sessionkey: str = shown("Session key to send with every call of the session", ...)


@command(
    "login",
    description="Logs a user in: sets a session cookie and gives the session key that must go with it.",
    params=Login,
    response=LoginResponse,
    post_only=True,
    anonymous=True,
    # hashing a password takes long: it must not hold the write lock
    reads=True,
)
def login(call: Call, params: Login) -> LoginResponse:
    limiter, address = call.client.bad_logins, call.client.address
    sessions.check_login_rate(limiter, params.username, address)
    user = _find(call, params)
    # the same work and the same answer whether the name or the password is wrong
    good = check_password(params.password, user.password_hash if user is not None else "")
    if user is None or not good or user.state != "enabled" or user.account.state != "enabled":
        sessions.bad_login(limiter, params.username, address)
        raise PermissionDeniedError("Failed to authenticate user: check username, password and domain")
    timeout = call.configuration.get_int(call.session, "session.timeout")
    with call.runtime.database.transaction() as transaction:
        cookie, key = sessions.begin(transaction, user, timeout)
    call.client.set_cookies.update({sessions.COOKIE: cookie, sessions.KEY_COOKIE: key})
    return LoginResponse(
        username=user.username,
        userid=user.id,
        domainid=user.account.domain_id,
        timeout=timeout,
        account=user.account.name,
        firstname=user.firstname,
        lastname=user.lastname,
        type=str(user.account.type),
        timezone=user.timezone,
        timezoneoffset=_offset(user.timezone),
        sessionkey=key,
    )


def _find(call: Call, params: Login) -> User | None:
    statement = select(User).join(Account).join(Domain).where(User.username == params.username)
    statement = statement.where(User.removed.is_(None), Account.removed.is_(None), Domain.removed.is_(None))
    if params.domainid is not None:
        statement = statement.where(Domain.id == params.domainid)
    else:
        parts = [part for part in (params.domain or "").split("/") if part]
        path = parts if parts[:1] == ["ROOT"] else ["ROOT", *parts]
        statement = statement.where(Domain.path == "/".join(path))
    return call.session.scalars(statement).one_or_none()


def _offset(timezone: str) -> str:
    try:
        offset = datetime.now(ZoneInfo(timezone)).utcoffset()
    except (ZoneInfoNotFoundError, ValueError, OSError):
        offset = None
    return str(offset.total_seconds() / 3600 if offset is not None else 0.0)


class LogoutResponse(Response):
    description: str = shown("Response description", ...)


@command(
    "logout",
    description="Logs the calling user out.",
    params=Nothing,
    response=LogoutResponse,
    anonymous=True,
    reads=True,
)
def logout(call: Call, params: Nothing) -> LogoutResponse:
    cookie = call.client.cookies.get(sessions.COOKIE)
    if cookie is None:
        raise ApiError("not logged in", code=401, cs_code=9999)
    with call.runtime.database.transaction() as transaction:
        sessions.end(transaction, cookie)
        proxies = consoles.close(transaction, consoles.of_login(token_hash(cookie)), "the user logged out")
    for proxy_id in proxies:
        call.runtime.wake(proxy_id)
    call.client.set_cookies.update({sessions.COOKIE: None, sessions.KEY_COOKIE: None})
    return LogoutResponse(description="success")
