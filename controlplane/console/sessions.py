"""The rows of console sessions: made, counted, taken away.

"Pending" until a browser is there, then "Open". One that is taken away leaves the proxy's document: it is "Closing"
until the proxy reports how it ended, "Ended" at once where nobody had opened it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any

from pydantic import ValidationError
from sqlalchemy import ColumnElement, func, or_, select
from sqlalchemy.orm import Session

from consoleproxy.services.console.model import Policy, VncTarget
from controlplane.convergence.desired import desire
from controlplane.errors import ParameterError
from controlplane.hypervisors.base import ConsoleTarget
from controlplane.secrets import Secrets
from controlplane.store.models import Appliance, ConsoleSession, User, Vm, now
from controlplane.store.recordings import Recording

#: seconds that a token is good for, unused
TOKEN_LIFE = timedelta(seconds=60)
#: seconds that a session waits for a proxy to start
START_LIFE = timedelta(seconds=300)
#: seconds after that in which the proxy may still report that it was used in time
LATE_REPORTS = timedelta(seconds=60)

#: states in which a proxy has, or may have, a place taken by the session
_THERE = ("Pending", "Open", "Closing")


def create(
    session: Session,
    *,
    vm: Vm,
    user: User,
    token_hash: str,
    policy: Mapping[str, Any],
    login: str | None,
    creator_address: str,
    playback: bool = False,
) -> ConsoleSession:
    """A session that no proxy has yet. ``policy`` holds fields of the document's Policy; ``login`` a cookie's hash.

    ``playback``: it is to show a recording rather than the guest's screen.
    """
    row = ConsoleSession(
        vm_id=vm.id,
        user_id=user.id,
        account_id=user.account_id,
        login=login,
        host_id=vm.host_id,
        token_hash=token_hash,
        policy=dict(policy),
        expires=now() + TOKEN_LIFE,
        creator_address=creator_address,
        target={"kind": "recording"} if playback else None,
    )
    session.add(row)
    session.flush()
    return row


def give(
    session: Session, secrets: Secrets, row: ConsoleSession, proxy_id: str, target: ConsoleTarget | Recording
) -> int:
    """Have a proxy serve a session; the generation in which it does. The token's time begins now.

    Raises ParameterError for what no document can hold.
    """
    if isinstance(target, Recording):
        row.target = {"kind": "recording", "recording": target.name}
    else:
        fields = {name: value for name, value in asdict(target).items() if value is not None}
        _check(fields, row)
        password = fields.pop("password", None)
        row.target, row.password = fields, secrets.seal(password) if password is not None else None
    row.appliance_id = proxy_id
    row.expires = now() + TOKEN_LIFE
    session.flush()
    return desire(session, proxy_id)


def _check(target: dict[str, Any], row: ConsoleSession) -> None:
    # one bad entry would keep the proxy from taking any document
    for model, fields, what in ((VncTarget, target, "the screen's address"), (Policy, row.policy, "the console")):
        try:
            model.model_validate(fields)
        except ValidationError as error:
            places = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
            raise ParameterError(f"{what} cannot be used: {places}") from None


def wait(session: Session, session_id: str) -> None:
    """A session waits for a proxy to start; its token's time begins when it has one."""
    session.get_one(ConsoleSession, session_id).expires = now() + START_LIFE


def waiting(session: Session, token_hash: str) -> ConsoleSession | None:
    """The session that waits for a proxy and has this token."""
    there = (ConsoleSession.token_hash == token_hash) & (ConsoleSession.state == "Pending")
    no_proxy = ConsoleSession.appliance_id.is_(None) & (ConsoleSession.expires > now())
    return session.scalars(select(ConsoleSession).where(there, no_proxy)).one_or_none()


def close(session: Session, which: ColumnElement[bool], reason: str) -> list[str]:
    """Take away the sessions for which ``which`` holds; the ids of the proxies to wake after the commit."""
    rows = session.scalars(select(ConsoleSession).where(which, ConsoleSession.state.in_(("Pending", "Open")))).all()
    proxies = set()
    for row in rows:
        if row.state == "Open":
            row.state, row.reason = "Closing", reason
        else:
            end(row, reason)
        if row.appliance_id is not None:
            proxies.add(row.appliance_id)
    session.flush()
    for proxy_id in sorted(proxies):
        desire(session, proxy_id)
    return sorted(proxies)


def of_vm(vm_id: str) -> ColumnElement[bool]:
    """All sessions of a guest's screen, for ``close``."""
    return (ConsoleSession.vm_id == vm_id) & shows_a_guest()


def shows_a_guest() -> ColumnElement[bool]:
    """Sessions that are no playback of a recording, for ``close``."""
    kind = ConsoleSession.target["kind"].as_string()
    return or_(ConsoleSession.target.is_(None), kind.is_(None), kind != "recording")


def of_user(user_id: str) -> ColumnElement[bool]:
    """All sessions of a user, for ``close``."""
    return ConsoleSession.user_id == user_id


def of_login(cookie_hash: str) -> ColumnElement[bool]:
    """All sessions that were asked for in one login, for ``close``."""
    return ConsoleSession.login == cookie_hash


def end(row: ConsoleSession, reason: str, when: datetime | None = None) -> None:
    """It is over; the secrets are forgotten."""
    row.state, row.reason, row.ended = "Ended", row.reason or reason, when or now()
    row.password = None


def expire(session: Session) -> None:
    """End the sessions whose token nobody used in time. The proxy knows that by itself and needs no new document."""
    late = ConsoleSession.expires < now() - LATE_REPORTS
    for row in session.scalars(select(ConsoleSession).where(ConsoleSession.state == "Pending", late)):
        end(row, "it was not opened in time", row.expires)


def abandon(session: Session, proxy_id: str, reason: str) -> None:
    """A proxy is gone: all its sessions are over, and nothing more will be reported of them."""
    here = ConsoleSession.appliance_id == proxy_id
    for row in session.scalars(select(ConsoleSession).where(here, ConsoleSession.state.in_(_THERE))):
        end(row, reason)
    session.flush()


def of_account(session: Session, account_id: str) -> int:
    """How many sessions an account has open or asked for."""
    there = select(func.count()).select_from(ConsoleSession).where(ConsoleSession.account_id == account_id, _live())
    return session.execute(there).scalar_one()


def load(session: Session, proxy_ids: list[str]) -> dict[str, int]:
    """Places taken at each proxy."""
    statement = (
        select(ConsoleSession.appliance_id, func.count())
        .where(ConsoleSession.appliance_id.in_(proxy_ids), _live())
        .group_by(ConsoleSession.appliance_id)
    )
    counted = {proxy: number for proxy, number in session.execute(statement) if proxy is not None}
    return {proxy: counted.get(proxy, 0) for proxy in proxy_ids}


def last_use(session: Session, proxy_id: str) -> datetime | None:
    """When a session was at the proxy last; None when none ever was."""
    used = func.max(func.coalesce(ConsoleSession.ended, ConsoleSession.expires))
    return session.execute(select(used).where(ConsoleSession.appliance_id == proxy_id)).scalar_one()


def recorded_until(session: Session) -> dict[str, datetime]:
    """Running proxies that may have recordings: when the last recorded session ended there; now, if one has not."""
    ended = func.max(func.coalesce(ConsoleSession.ended, now()))
    statement = (
        select(Appliance.id, ended)
        .join(ConsoleSession, ConsoleSession.appliance_id == Appliance.id)
        .where(Appliance.state == "Running", ConsoleSession.acquired.is_not(None))
        .where(ConsoleSession.policy["record"].as_boolean())
        .group_by(Appliance.id)
    )
    return {row[0]: row[1] for row in session.execute(statement)}


def last_proxy(session: Session, vm_id: str) -> str | None:
    """The proxy that served the guest last."""
    statement = select(ConsoleSession.appliance_id).where(
        ConsoleSession.vm_id == vm_id, ConsoleSession.appliance_id.is_not(None)
    )
    return session.scalars(statement.order_by(ConsoleSession.created.desc()).limit(1)).first()


def _live() -> ColumnElement[bool]:
    unused = (ConsoleSession.state == "Pending") & (ConsoleSession.expires > now())
    return ConsoleSession.state.in_(("Open", "Closing")) | unused
