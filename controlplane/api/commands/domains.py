"""Domains: the tree that accounts live in."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import func, select

from controlplane.api import listing
from controlplane.api.call import Call
from controlplane.api.command import ADMINS, USER, Async, ListParams, Params, Response, command, param, shown
from controlplane.errors import InUseError, ParameterError, PermissionDeniedError
from controlplane.network import addressing
from controlplane.store.defaults import ROOT_DOMAIN_ID
from controlplane.store.models import Account, Domain, Network, now

MAX_DEPTH = 16


class DomainResponse(Response):
    id: str = shown("the ID of the domain", ...)
    name: str = shown("the name of the domain", ...)
    level: int = shown("the level of the domain", ...)
    parentdomainid: str | None = shown("the domain ID of the parent domain")
    parentdomainname: str | None = shown("the domain name of the parent domain")
    haschild: bool = shown("whether the domain has one or more sub-domains", ...)
    path: str = shown("the path of the domain", ...)
    state: str = shown("the state of the domain", "Active")
    networkdomain: str | None = shown("the network domain")
    created: datetime = shown("the date when this domain was created", ...)


def show_domains(call: Call, domains: Sequence[Domain]) -> list[DomainResponse]:
    parents = select(Domain.parent_id, func.count()).where(
        Domain.parent_id.in_([domain.id for domain in domains]), Domain.removed.is_(None)
    )
    with_children = {parent for parent, _ in call.session.execute(parents.group_by(Domain.parent_id))}
    answers = []
    for domain in domains:
        parent = call.session.get(Domain, domain.parent_id) if domain.parent_id is not None else None
        answers.append(
            DomainResponse(
                id=domain.id,
                name=domain.name,
                level=domain.path.count("/"),
                parentdomainid=parent.id if parent is not None else None,
                parentdomainname=parent.name if parent is not None else None,
                haschild=domain.id in with_children,
                path=domain.path,
                networkdomain=domain.network_domain,
                created=domain.created,
            )
        )
    return answers


class ListDomains(ListParams):
    id: str | None = param("List domain by domain ID.", default=None, entity="Domain")
    name: str | None = param("List domain by domain name.", default=None)
    level: int | None = param("List domains by domain level.", default=None, minimum=0)
    listall: bool = param("accepted for compatibility: all domains that the caller may see are listed", default=False)


@command(
    "listDomains",
    description="Lists domains and provides detailed information for listed domains",
    params=ListDomains,
    response=DomainResponse,
    object_name="domain",
)
def list_domains(call: Call, params: ListDomains) -> tuple[int, list[DomainResponse]]:
    statement = select(Domain).where(
        Domain.removed.is_(None), listing.domains_below(call.account.domain, recursive=call.account.type != USER)
    )
    if params.id is not None:
        statement = statement.where(Domain.id == call.lookup(Domain, params.id).id)
    if params.name is not None:
        statement = statement.where(Domain.name == params.name)
    if params.level is not None:
        statement = statement.where(
            func.length(Domain.path) - func.length(func.replace(Domain.path, "/", "")) == params.level
        )
    statement = listing.search(statement, params.keyword, Domain.name).order_by(Domain.path)
    return listing.fetch(call, statement, params, lambda rows: show_domains(call, rows))


class CreateDomain(Params):
    name: str = param("creates domain with this name", length=190)
    parentdomainid: str | None = param("the domain above it; the caller's by default", default=None, entity="Domain")
    networkdomain: str | None = param("network domain for networks in the domain", default=None)


@command(
    "createDomain",
    description="Creates a domain",
    params=CreateDomain,
    response=DomainResponse,
    object_name="domain",
    roles=ADMINS,
    event="DOMAIN.CREATE",
)
def create_domain(call: Call, params: CreateDomain) -> DomainResponse:
    parent = (
        call.lookup(Domain, params.parentdomainid, "parentdomainid") if params.parentdomainid else call.account.domain
    )
    if parent.path.count("/") >= MAX_DEPTH:
        raise ParameterError(f"domains can be nested {MAX_DEPTH} deep")
    path = _path(call, parent, params.name)
    suffix = addressing.parse_domain("networkdomain", params.networkdomain or "")
    domain = Domain(name=params.name, path=path, parent_id=parent.id, network_domain=suffix)
    call.session.add(domain)
    call.session.flush()
    call.event(f"Successfully created domain {path}", ("Domain", domain.id))
    return show_domains(call, [domain])[0]


def _path(call: Call, parent: Domain, name: str) -> str:
    """The path of a domain with this name, which must be free."""
    if "/" in name or not name.strip():
        raise ParameterError("a domain name cannot be empty or contain /")
    path = f"{parent.path}/{name}"
    if len(path) > 1024:
        raise ParameterError("the path of the domain would be longer than 1024 characters")
    if call.session.scalar(select(Domain.id).where(Domain.path == path, Domain.removed.is_(None))) is not None:
        raise ParameterError(f"Domain with name {name} already exists in {parent.path}")
    return path


class UpdateDomain(Params):
    id: str = param("ID of domain to update", entity="Domain")
    name: str | None = param("updates domain with this name", default=None, length=190)
    networkdomain: str | None = param(
        "network domain for networks in the domain; those there are take it with updateNetwork; empty to clear",
        default=None,
        clears=True,
    )


@command(
    "updateDomain",
    description="Updates a domain with a new name or network domain",
    params=UpdateDomain,
    response=DomainResponse,
    object_name="domain",
    roles=ADMINS,
    event="DOMAIN.UPDATE",
)
def update_domain(call: Call, params: UpdateDomain) -> DomainResponse:
    if params.name is None:
        # only a new name moves a domain: the network domain is for root administrators to set on any of them
        domain = call.lookup(Domain, params.id) if call.is_root else _below_caller(call, params.id)
    else:
        domain = _below_caller(call, params.id)
    if params.networkdomain is not None:
        domain.network_domain = addressing.parse_domain("networkdomain", params.networkdomain)
    if params.name is not None and params.name != domain.name:
        old = domain.path
        new = _path(call, call.session.get_one(Domain, domain.parent_id), params.name)
        below = select(Domain).where(Domain.removed.is_(None), listing.domains_below(domain, recursive=True))
        for row in call.session.scalars(below).all():
            row.path = new + row.path.removeprefix(old)
        domain.name = params.name
    call.event(f"Successfully updated domain {domain.path}", ("Domain", domain.id))
    return show_domains(call, [domain])[0]


def _below_caller(call: Call, domain_id: str) -> Domain:
    """A domain that the caller may change: not ROOT, and not the caller's own."""
    domain = call.lookup(Domain, domain_id)
    if domain.id in (ROOT_DOMAIN_ID, call.account.domain_id):
        raise PermissionDeniedError("the ROOT domain and one's own domain cannot be changed")
    return domain


class DeleteDomain(Params):
    id: str = param("ID of domain to delete", entity="Domain")
    cleanup: bool = param("delete the domains below it too, if they have no accounts", default=False)


@command(
    "deleteDomain",
    description="Deletes a specified domain; its accounts must have been deleted",
    params=DeleteDomain,
    roles=ADMINS,
    is_async=True,
    event="DOMAIN.DELETE",
)
def delete_domain(call: Call, params: DeleteDomain) -> Async:
    domain = _below_caller(call, params.id)
    tree = select(Domain).where(Domain.removed.is_(None), listing.domains_below(domain, recursive=True))
    rows = call.session.scalars(tree).all()
    if len(rows) > 1 and not params.cleanup:
        raise InUseError(f"Domain {domain.path} has domains below it; delete them first, or ask for cleanup")
    ids = [row.id for row in rows]
    account = select(Account.name).where(Account.domain_id.in_(ids), Account.removed.is_(None))
    name = call.session.scalar(account.limit(1))
    if name is not None:
        raise InUseError(f"Domain {domain.path} has accounts ({name}); delete them first")
    network = select(Network.name).where(Network.domain_id.in_(ids), Network.removed.is_(None))
    name = call.session.scalar(network.limit(1))
    if name is not None:
        raise InUseError(f"Domain {domain.path} has shared networks ({name}); delete them first")
    for row in rows:
        row.removed = now()
    return Async("Domain", domain.id, f"deleting domain {domain.path}")
