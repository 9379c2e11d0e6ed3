"""Who may use a network: its account, those of its domain, those with a permission (guide: chapters 9.2, 15)."""

from __future__ import annotations

from sqlalchemy import ColumnElement, and_, func, or_, select
from sqlalchemy.orm import Session

from controlplane.errors import ParameterError, PermissionDeniedError
from controlplane.store.models import Account, Domain, Network, NetworkPermission

ACCOUNT, DOMAIN = "Account", "Domain"


def may_use(session: Session, network: Network, account: Account) -> bool:
    """Whether VMs of ``account`` may be on the network."""
    return session.scalar(select(Network.id).where(Network.id == network.id, usable_by(account))) is not None


def check(session: Session, network: Network, account: Account) -> None:
    """PermissionDeniedError unless VMs of ``account`` may be on the network."""
    if not may_use(session, network, account):
        raise PermissionDeniedError(
            f"account {account.name} may not use network {network.name}; its owner can permit it with "
            "createNetworkPermissions"
        )


def usable_by(account: Account) -> ColumnElement[bool]:
    """A condition on ``Network``: VMs of ``account`` may be on it."""
    permitted = select(NetworkPermission.network_id).where(NetworkPermission.account_id == account.id)
    return or_(
        and_(Network.acl_type == ACCOUNT, or_(Network.account_id == account.id, Network.id.in_(permitted))),
        of_domain(account.domain),
    )


def of_domain(domain: Domain) -> ColumnElement[bool]:
    """A condition on ``Network``: it is for the domain, or for one above it with access for those below."""
    above = select(Domain.id).where(
        # not LIKE, which ignores case on SQLite
        func.substr(domain.path, 1, func.length(Domain.path) + 1) == Domain.path + "/"
    )
    return and_(
        Network.acl_type == DOMAIN,
        or_(Network.domain_id == domain.id, and_(Network.subdomain_access, Network.domain_id.in_(above))),
    )


def permit(session: Session, network: Network, accounts: list[Account]) -> None:
    """Let accounts use a network of another account. ParameterError for one that accounts share anyhow."""
    if network.acl_type != ACCOUNT:
        raise ParameterError(f"network {network.name} is for a domain; permissions go with networks of accounts")
    known = set(session.scalars(select(NetworkPermission.account_id).where(NetworkPermission.network_id == network.id)))
    for account in accounts:
        if account.id == network.account_id:
            raise ParameterError(f"account {account.name} owns network {network.name}; it needs no permission")
        if account.id not in known:
            known.add(account.id)
            session.add(NetworkPermission(network_id=network.id, account_id=account.id))
    session.flush()
