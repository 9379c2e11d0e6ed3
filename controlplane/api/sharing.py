"""Networks that accounts share, for the commands: finding, listing and permitting them."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, Select, or_, select, true

from controlplane.api import listing
from controlplane.api.call import Call
from controlplane.api.command import DOMAIN_ADMIN, ScopedListParams
from controlplane.errors import ParameterError, PermissionDeniedError, unknown_id
from controlplane.network import access, guestranges
from controlplane.network.shared import Audience
from controlplane.store.defaults import ROOT_DOMAIN_ID, SYSTEM_ACCOUNT_ID
from controlplane.store.models import Account, Domain, Network, NetworkPermission


def find(call: Call, id: str, parameter: str) -> Network:
    """A network that the caller may put VMs on: one of its own, or one that is shared with it."""
    network = call.session.get(Network, id)
    if network is None or network.removed is not None:
        raise unknown_id(parameter, id)
    if not access.may_use(call.session, network, call.account):
        call.check_account(network.account)
    return network


def scope(call: Call, statement: Select[Any], params: ScopedListParams, *, by_id: bool) -> Select[Any]:
    """Networks of the accounts that were asked for, and those that these accounts share with others."""
    if params.account is not None:
        return statement.where(or_(_own(call, params, by_id=by_id), access.usable_by(_named(call, params))))
    if call.is_root and (by_id or params.listall) and params.domainid is None:
        return statement
    if params.domainid is not None:
        domain = call.lookup(Domain, params.domainid, "domainid")
        return statement.where(or_(_own(call, params, by_id=by_id), access.of_domain(domain)))
    conditions = [_own(call, params, by_id=by_id), access.usable_by(call.account)]
    if call.account.type == DOMAIN_ADMIN and (by_id or params.listall):
        below = select(Domain.id).where(listing.domains_below(call.account.domain, recursive=True))
        conditions.append(Network.domain_id.in_(below))
    return statement.where(or_(*conditions))


def filtered(call: Call, networkfilter: str) -> ColumnElement[bool]:
    """A condition on ``Network`` for listNetworks' parameter networkfilter."""
    permitted = select(NetworkPermission.network_id).where(NetworkPermission.account_id == call.account.id)
    return {
        "all": true(),
        "account": Network.acl_type == access.ACCOUNT,
        "domain": Network.acl_type == access.DOMAIN,
        "accountdomain": Network.id.not_in(permitted),
        "shared": Network.id.in_(permitted),
    }[networkfilter]


def _own(call: Call, params: ScopedListParams, *, by_id: bool) -> ColumnElement[bool]:
    accounts = listing.accounts_in_scope(call, params, everything=by_id or params.listall)
    return Network.account_id.in_(accounts if accounts is not None else [])


def _named(call: Call, params: ScopedListParams) -> Account:
    return call.owner(params.account, params.domainid)


def audience(
    call: Call, *, acltype: str | None, account: str | None, domainid: str | None, subdomainaccess: bool | None
) -> Audience:
    """Whom a new shared network is for. Raises ParameterError for a mixture that means nothing."""
    if not call.is_root:
        raise PermissionDeniedError("only root administrators create shared networks")
    if acltype == "account" or (acltype is None and account is not None):
        if account is None:
            raise ParameterError("acltype=account: account and domainid must say whose network it is")
        if subdomainaccess:
            raise ParameterError("subdomainaccess goes with acltype=domain")
        return Audience(call.owner(account, domainid))
    if account is not None:
        raise ParameterError("account goes with acltype=account")
    system = call.session.get_one(Account, SYSTEM_ACCOUNT_ID)
    if domainid is None or (domainid == ROOT_DOMAIN_ID and subdomainaccess is not False):
        # the whole zone's
        return Audience(system, call.session.get_one(Domain, ROOT_DOMAIN_ID), subdomains=True)
    if subdomainaccess is None:
        subdomainaccess = call.configuration.get_bool(call.session, "allow.subdomain.network.access")
    return Audience(system, call.lookup(Domain, domainid, "domainid"), subdomainaccess)


def need_operator(call: Call, network: Network) -> None:
    """PermissionDeniedError when a shared network is to be changed by somebody who cannot create one."""
    if guestranges.is_shared(network) and not call.is_root:
        raise PermissionDeniedError(f"network {network.name} is shared; root administrators alone change it")
