"""One API call: who calls, in which transaction, and what the caller may touch."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import Session

from controlplane import events
from controlplane.api import sessions
from controlplane.api.command import DOMAIN_ADMIN, ROOT_ADMIN, Command
from controlplane.api.sessions import Limiter
from controlplane.configuration import Configuration
from controlplane.console import sessions as consoles
from controlplane.console.endpoints import Endpoint, Starting
from controlplane.errors import ParameterError, PermissionDeniedError, UnauthenticatedError, unknown_id
from controlplane.hypervisors.base import Hypervisor
from controlplane.network import limits
from controlplane.pki import Authority
from controlplane.secrets import Secrets
from controlplane.store.database import Database
from controlplane.store.models import (
    Account,
    Domain,
    Entity,
    Network,
    Nic,
    SecurityGroupRule,
    Template,
    User,
    VlanIpRange,
    Vm,
)
from controlplane.store.recordings import RecordingStore
from controlplane.templates import rows as templates

log = logging.getLogger("gatehouse.api")

E = TypeVar("E", bound=Entity)


class Consoles(Protocol):
    """What opens consoles."""

    def open(self, session_id: str, token: str, recorded: str | None = None, part: int = 1) -> Endpoint | Starting:
        """Give a session to a proxy and wait until that has it; after the commit. Raises ApiError.

        ``recorded``: it shows the recording of that session's connection number ``part``. Starting: a proxy is being
        started, ``resume`` goes on.
        """

    def resume(self, token_hash: str, token: str) -> Endpoint | Starting:
        """Give a session that waits for a proxy to one. Raises ApiError."""

    def delete_recordings(self, session_id: str) -> None:
        """Delete what is kept of a session, wherever it is. Raises ApiError."""


class Runtime(Protocol):
    """What the API needs of the running control plane."""

    @property
    def data(self) -> Path:
        """The data directory."""

    @property
    def images(self) -> Path:
        """The hypervisor's directory for images, see ``Hypervisor.images``."""

    @property
    def database(self) -> Database: ...
    @property
    def configuration(self) -> Configuration: ...
    @property
    def secrets(self) -> Secrets: ...
    @property
    def authority(self) -> Authority: ...
    @property
    def hypervisor(self) -> Hypervisor: ...

    @property
    def consoles(self) -> Consoles: ...
    @property
    def recordings(self) -> RecordingStore: ...

    def wake(self, appliance_id: str) -> None:
        """Look at this appliance's desired generation now; called after the commit, from any thread."""

    def reach(self, appliance_id: str, generation: int, timeout: float) -> None:
        """Wait until an appliance has a generation; after the commit. Raises ApiError."""

    def keep_storage(self) -> None:
        """Look now at what there is to do in secondary storage; called after the commit, from any thread."""

    def enforce_policy(self) -> None:
        """Have the hosts enforce the newest policy of guests' ports now; called after the commit, from any thread."""

    def hurry(self, task: str) -> None:
        """Have a task of housekeeping done at once; called after the commit, from any thread."""

    def start_workflow(self, name: str, job_id: str, arguments: dict[str, Any]) -> None:
        """Start a durable workflow under the job's id; called after the commit, from any thread."""


@dataclass(frozen=True)
class Client:
    """The HTTP side of a call, for logins."""

    address: str
    cookies: Mapping[str, str]
    bad_logins: Limiter
    #: where the caller reached the API, as in https://cloud.example:8443
    origin: str = ""
    #: cookies to set, None deletes
    set_cookies: dict[str, str | None] = field(default_factory=dict)


@dataclass
class Call:
    """A call being handled. Everything happens in ``session``'s transaction, which the server commits."""

    session: Session
    runtime: Runtime
    command: Command
    client: Client
    #: None for commands that need no credentials
    caller: User | None
    _after: list[Callable[[], None]] = field(default_factory=list)

    @property
    def user(self) -> User:
        """The calling user. Raises UnauthenticatedError when nobody in particular calls."""
        if self.caller is None:
            raise UnauthenticatedError("log in first")
        return self.caller

    @property
    def account(self) -> Account:
        """The calling user's account."""
        return self.user.account

    @property
    def configuration(self) -> Configuration:
        return self.runtime.configuration

    @property
    def is_root(self) -> bool:
        return self.account.type == ROOT_ADMIN

    def after_commit(self, function: Callable[[], None]) -> None:
        """Call ``function`` once the transaction has been committed (not when it was rolled back)."""
        self._after.append(function)

    def run_after_commit(self) -> None:
        """For the server: the transaction has been committed.

        What fails here is logged, not answered: the rows are there, and whoever follows them (the reconciler, pending
        jobs on the next start) catches up.
        """
        for function in self._after:
            try:
                function()
            except Exception:
                log.exception("%s is committed, but what follows it failed", self.command.name)

    def event(
        self,
        description: str,
        resource: tuple[str, str] | None = None,
        *,
        type: str | None = None,
        account_id: str | None = None,
        level: events.Level = "INFO",
    ) -> None:
        """Record an event: of the command's declared type, for the caller's account, unless told otherwise."""
        name = type or self.command.event
        if name is None:
            raise ValueError(f"{self.command.name} declares no event type")
        owner = account_id or self.account.id
        events.record(
            self.session, name, description, account_id=owner, user_id=self.user.id, level=level, resource=resource
        )

    def end_logins(self, user_id: str, reason: str) -> None:
        """End every login session of a user, and every console that the user watches."""
        sessions.end_all(self.session, user_id)
        self.close_consoles(consoles.of_user(user_id), reason)

    def close_consoles(self, which: ColumnElement[bool], reason: str) -> None:
        """Close console sessions, see ``console.sessions.close``."""
        for proxy_id in consoles.close(self.session, which, reason):
            self.after_commit(partial(self.runtime.wake, proxy_id))

    def lookup(self, model: type[E], value: str, parameter: str = "id") -> E:
        """The row with id ``value``, which the caller may use.

        Raises ParameterError with the text for an unknown id (removed counts as unknown), PermissionDeniedError when it
        belongs to an account or domain that the caller has no say in.
        """
        row = self.session.get(model, value)
        if row is None or getattr(row, "removed", None) is not None:
            raise unknown_id(parameter, value)
        if isinstance(row, Account):
            self.check_account(row)
        elif isinstance(row, Domain):
            self.check_domain(row)
        else:
            owner = self.owner_of(row)
            if owner is not None:
                self.check_account(owner)
        return row

    def owner_of(self, row: Entity) -> Account | None:
        """The account that a row belongs to, directly or through its network or VM; None for what all may use."""
        if isinstance(row, VlanIpRange) or (
            isinstance(row, Template) and templates.may_use(self.session, row, self.account.id)
        ):
            return None
        account_id: str | None = getattr(row, "account_id", None)
        if account_id is not None:
            return self.session.get_one(Account, account_id)
        if isinstance(row, SecurityGroupRule):
            return row.group.account
        if isinstance(row, Nic):
            return self.session.get_one(Vm, row.vm_id).account
        network_id: str | None = getattr(row, "network_id", None)
        return self.session.get_one(Network, network_id).account if network_id is not None else None

    def may_use(self, account: Account) -> bool:
        """Whether the caller may act on what belongs to ``account``."""
        if self.is_root or account.id == self.account.id:
            return True
        if self.account.type != DOMAIN_ADMIN or account.type == ROOT_ADMIN:
            return False
        return self._contains(account.domain)

    def check_account(self, account: Account) -> None:
        """Raise PermissionDeniedError unless the caller may act on what belongs to ``account``."""
        if not self.may_use(account):
            raise PermissionDeniedError(
                f"Account {self.account.name} does not have permission to operate with what belongs to another account"
            )

    def check_domain(self, domain: Domain) -> None:
        """Raise PermissionDeniedError unless it is the caller's domain, or below it and the caller an administrator."""
        if self.is_root or domain.id == self.account.domain_id:
            return
        if not (self.account.type == DOMAIN_ADMIN and self._contains(domain)):
            raise PermissionDeniedError(
                f"Account {self.account.name} does not have permission to operate with that domain"
            )

    def owner(self, account: str | None, domainid: str | None) -> Account:
        """The account that a new resource will belong to: the caller's, or that of parameters account and domainid."""
        if account is None and domainid is None:
            return self.account
        if account is None:
            domain = self.lookup(Domain, str(domainid), "domainid")
            if domain.id == self.account.domain_id:
                return self.account
            raise ParameterError("parameter domainid needs parameter account: the name of the owner in that domain")
        domain = self.lookup(Domain, domainid, "domainid") if domainid is not None else self.account.domain
        statement = select(Account).where(
            Account.name == account, Account.domain_id == domain.id, Account.removed.is_(None)
        )
        row = self.session.scalars(statement).one_or_none()
        if row is None:
            raise ParameterError(f"Unable to find account {account} in domain {domain.path}")
        self.check_account(row)
        if row.state != "enabled":
            raise PermissionDeniedError(f"Account {account} is {row.state}")
        return row

    def check_limit(self, account: Account, setting: str, used: int, more: int = 1) -> None:
        """Raise LimitError when ``used + more`` goes over the account's limit (``max.account.*``; -1 is none)."""
        limits.check(self.session, self.configuration, account, setting, used=used, more=more)

    def _contains(self, domain: Domain) -> bool:
        own = self.account.domain
        return domain.id == own.id or domain.path.startswith(f"{own.path}/")
