"""What commands have in common that take security groups: by id, or by name of an account."""

from __future__ import annotations

from sqlalchemy import func, select

from controlplane.api.call import Call
from controlplane.api.command import Async, Entry, Params, param
from controlplane.errors import ParameterError
from controlplane.securitygroups import desired
from controlplane.store.models import Account, SecurityGroup


class PeerEntry(Entry):
    """``usersecuritygrouplist[n].account`` and ``.group``."""

    account: str = param("name of the account of the group, in the same domain")
    group: str = param("name of the group")


class GroupParams(Params):
    """Whose group it is, where a group is given by its name."""

    account: str | None = param("owner of the group; needs domainid", default=None)
    domainid: str | None = param("domain of the owner", default=None, entity="Domain")


def find(call: Call, id: str | None, name: str | None, params: GroupParams) -> SecurityGroup:
    """The group with that id, or with that name in that account (the caller's unless given). ParameterError."""
    if id is not None:
        return call.lookup(SecurityGroup, id)
    if name is None:
        raise ParameterError("give the security group's id or its name")
    return named(call, call.owner(params.account, params.domainid), name)


def named(call: Call, owner: Account, name: str) -> SecurityGroup:
    """A group of an account by its name, in any case. ParameterError when there is none."""
    statement = select(SecurityGroup).where(
        SecurityGroup.account_id == owner.id, func.lower(SecurityGroup.name) == name.lower()
    )
    group = call.session.scalars(statement).one_or_none()
    if group is None:
        raise ParameterError(f"Unable to find security group {name} of account {owner.name}")
    return group


def wanted(call: Call, owner: Account, ids: list[str] | None, names: list[str] | None) -> list[SecurityGroup] | None:
    """The groups that parameters securitygroupids and securitygroupnames ask for; None for the default one."""
    if ids is not None and names is not None:
        raise ParameterError("securitygroupids and securitygroupnames cannot be given together")
    if ids is not None:
        return [call.lookup(SecurityGroup, id, "securitygroupids") for id in ids]
    return [named(call, owner, name) for name in names] if names is not None else None


def peers(call: Call, group: SecurityGroup, entries: list[PeerEntry]) -> list[SecurityGroup]:
    """The groups of ``usersecuritygrouplist``, of any account in the group's domain. ParameterError."""
    found = []
    for entry in entries:
        statement = select(Account).where(
            Account.name == entry.account, Account.domain_id == group.account.domain_id, Account.removed.is_(None)
        )
        account = call.session.scalars(statement).one_or_none()
        if account is None:
            raise ParameterError(
                f"usersecuritygrouplist: there is no account {entry.account} in domain {group.account.domain.path}"
            )
        found.append(named(call, account, entry.group))
    return found


def applied(call: Call, group: SecurityGroup, description: str, completion: str, **arguments: object) -> Async:
    """The answer of a command that has changed rules: the job ends when the hosts enforce it."""
    return Async(
        "SecurityGroup",
        group.id,
        description,
        workflow="apply_security_groups",
        arguments={"generation": desired.desire(call.session)},
        completion=completion,
        completion_arguments=arguments,
    )
