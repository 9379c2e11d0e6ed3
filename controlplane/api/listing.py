"""What list commands share: who sees what, keyword search, paging."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Select, String, cast, false, func, or_, select
from sqlalchemy.orm import InstrumentedAttribute

from controlplane.api.call import Call
from controlplane.api.command import ROOT_ADMIN, USER, ListParams, Response, ScopedListParams, shown
from controlplane.errors import ParameterError
from controlplane.store.models import Account, Domain

R = TypeVar("R")
UNLIMITED = -1
_PART = 5000


class OwnedResponse(Response):
    """Fields of every resource that belongs to an account."""

    account: str | None = shown("the account that owns it")
    domainid: str | None = shown("the domain id of the owner")
    domain: str | None = shown("the domain name of the owner")
    domainpath: str | None = shown("path of the domain of the owner")


def owned_by(account: Account) -> dict[str, str]:
    """The fields of OwnedResponse for a resource of ``account``."""
    domain = account.domain
    return {"account": account.name, "domainid": domain.id, "domain": domain.name, "domainpath": domain.path}


def scope(
    call: Call,
    statement: Select[Any],
    owner: InstrumentedAttribute[str] | InstrumentedAttribute[str | None],
    params: ScopedListParams,
    *,
    by_id: bool = False,
) -> Select[Any]:
    """Restrict a list to what the caller may see and asked for. ``owner`` is the column with the account's id.

    Users see their own account's. Administrators see their own account's too, unless they ask for more: ``listall``
    (all that they administer), ``domainid`` (with ``isrecursive`` its subdomains too), ``account`` with ``domainid``.
    ``by_id``: an id was given, which finds whatever the caller may see.
    """
    accounts = accounts_in_scope(call, params, everything=by_id or params.listall)
    return statement if accounts is None else statement.where(owner.in_(accounts))


def accounts_in_scope(call: Call, params: ScopedListParams, *, everything: bool) -> Select[Any] | list[str] | None:
    """Ids of the accounts a list is about: a subquery, a list, or None for all there are."""
    if params.account is not None:
        return [call.owner(params.account, params.domainid).id]
    if call.account.type == USER:
        if params.domainid is not None:
            call.lookup(Domain, params.domainid, "domainid")
        return [call.account.id]
    if params.domainid is not None:
        domain = call.lookup(Domain, params.domainid, "domainid")
        return _accounts_of(call, domain, recursive=params.isrecursive or params.listall)
    if not everything:
        return [call.account.id]
    return None if call.is_root else _accounts_of(call, call.account.domain, recursive=True)


def domains_below(domain: Domain, *, recursive: bool) -> ColumnElement[bool]:
    """A condition on ``Domain``: this one, and with ``recursive`` those below it."""
    own, prefix = Domain.id == domain.id, f"{domain.path}/"
    # not LIKE, which ignores case on SQLite: ROOT/acme and ROOT/ACME are two domains
    return or_(own, func.substr(Domain.path, 1, len(prefix)) == prefix) if recursive else own


def _accounts_of(call: Call, domain: Domain, *, recursive: bool) -> Select[Any]:
    statement = select(Account.id).join(Domain).where(domains_below(domain, recursive=recursive))
    # as in Call.may_use: whoever administers a domain has no say in root administrators who live in it
    return statement if call.is_root else statement.where(Account.type != ROOT_ADMIN)


def displayed(
    call: Call, statement: Select[Any], column: InstrumentedAttribute[bool], wanted: bool | None
) -> Select[Any]:
    """Restrict a list by ``fordisplay``: what is not shown to its owner is seen by root administrators only."""
    if not call.is_root:
        statement = statement.where(column)
    return statement if wanted is None else statement.where(column.is_(wanted))


def search(statement: Select[Any], keyword: str | None, *columns: InstrumentedAttribute[Any]) -> Select[Any]:
    """Restrict a list to rows with ``keyword`` in one of the columns, in any case."""
    if keyword is None:
        return statement
    return statement.where(
        or_(false(), *(cast(column, String).icontains(keyword, autoescape=True) for column in columns))
    )


def page_of(call: Call, params: ListParams) -> tuple[int, int | None]:
    """(offset, limit) that paging asks for. Raises ParameterError when page and pagesize do not come together."""
    largest = call.configuration.get_int(call.session, "default.page.size")
    if params.pagesize is None:
        if params.page is not None:
            raise ParameterError('"pagesize" parameter is required when "page" is specified')
        return 0, largest
    if params.pagesize == UNLIMITED and params.page is None:
        return 0, None
    if params.page is None:
        raise ParameterError('"page" parameter is required when "pagesize" is specified')
    if not 0 < params.pagesize <= largest:
        raise ParameterError(f"pagesize must be from 1 to {largest}")
    if params.page < 1:
        raise ParameterError("page must be 1 or more")
    return (params.page - 1) * params.pagesize, params.pagesize


def fetch(
    call: Call, statement: Select[R], params: ListParams, show: Callable[[list[R]], list[Any]]
) -> tuple[int, list[Any]]:
    """The answer of a list command: how many rows there are in all, and the asked page of them.

    ``statement`` selects one entity in a total order; ``show`` makes the responses of one page of rows.
    """
    offset, limit = page_of(call, params)
    rows = list(call.session.scalars(statement.offset(offset).limit(limit)))
    # in parts, for ``show`` puts all ids into one query and SQLite takes 32,766 of them
    shown = [item for at in range(0, len(rows), _PART) for item in show(rows[at : at + _PART])]
    if offset == 0 and (limit is None or len(rows) < limit):
        return len(rows), shown
    total = call.session.scalar(select(func.count()).select_from(statement.order_by(None).subquery()))
    return total or 0, shown


def cut(call: Call, items: list[Any], params: ListParams) -> tuple[int, list[Any]]:
    """The same for a list that is in memory."""
    offset, limit = page_of(call, params)
    return len(items), items[offset : None if limit is None else offset + limit]
