"""The people who may connect to an account's remote access VPNs (guide: chapter 15.17.1)."""

from __future__ import annotations

import re

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from controlplane.errors import LimitError, ParameterError, RuleConflictError
from controlplane.secrets import Secrets
from controlplane.store.models import Account, VpnUser

#: on its way out: not part of the desired state any more
REVOKED = "Revoke"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9@._+-]{2,63}")
_PASSWORD_LENGTH = range(3, 129)
#: pppd reads a secret that begins with "@" from a file, and quotation marks and backslashes in its own way
#: (chap-secrets(5))
_FORBIDDEN = frozenset("\"'\\")


def check_name(name: str) -> str:
    """ParameterError for a name that some client or daemon would not take."""
    if not _NAME.fullmatch(name):
        raise ParameterError(
            "username: it has 3 to 64 letters, digits and any of @ . _ + -, and begins with a letter or digit"
        )
    return name


def check_password(password: str) -> str:
    """ParameterError for a password that some client or daemon would not take."""
    ascii_only = password.isascii() and password.isprintable()
    if len(password) not in _PASSWORD_LENGTH or not ascii_only or password[0] == "@" or _FORBIDDEN & set(password):
        raise ParameterError(
            "password: it has 3 to 128 printable ASCII characters, no quotation marks and no backslash, "
            "and does not begin with @"
        )
    return password


def add(session: Session, secrets: Secrets, account: Account, *, name: str, password: str, limit: int) -> VpnUser:
    """A user in state Add. RuleConflictError for a name that is taken in any case, LimitError beyond ``limit``."""
    check_name(name)
    check_password(password)
    # so that two at once cannot both take the last place
    session.refresh(account, with_for_update=True)
    same = select(VpnUser).where(VpnUser.account_id == account.id, func.lower(VpnUser.name) == name.lower())
    held = session.scalars(same).one_or_none()
    if held is not None:
        how = "is being removed" if held.state == REVOKED else "is there already"
        raise RuleConflictError(f"username: VPN user {held.name} of account {account.name} {how}")
    used = session.scalar(select(func.count()).where(VpnUser.account_id == account.id)) or 0
    if used >= limit:
        raise LimitError(f"account {account.name} has {used} VPN users, and may have {limit}; remove one first")
    user = VpnUser(account_id=account.id, name=name, password=secrets.seal(password))
    session.add(user)
    session.flush()
    return user


def find(session: Session, account: Account, name: str) -> VpnUser:
    """A user by name. ParameterError without one."""
    same = select(VpnUser).where(VpnUser.account_id == account.id, func.lower(VpnUser.name) == name.lower())
    user = session.scalars(same).one_or_none()
    if user is None:
        raise ParameterError(f"username: account {account.name} has no VPN user {name}; listVpnUsers shows them")
    return user


def activate(session: Session, user_id: str) -> VpnUser | None:
    """Mark a user as known to the routers; None when it is gone or going."""
    user = session.get(VpnUser, user_id)
    if user is None or user.state == REVOKED:
        return None
    user.state = "Active"
    session.flush()
    return user


def remove(session: Session, user_id: str) -> None:
    """Delete a user that was revoked. Doing so twice does nothing."""
    session.execute(delete(VpnUser).where(VpnUser.id == user_id, VpnUser.state == REVOKED))
