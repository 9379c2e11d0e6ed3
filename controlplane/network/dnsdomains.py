"""DNS domains of networks: the network's own, its account's, domain's, zone's, or the global one (guide: 18.5)."""

from __future__ import annotations

from sqlalchemy.orm import Session

from controlplane.store.models import Account, Domain, Network, Zone


def inherited(session: Session, *, account: Account, domain: Domain | None, zone: Zone, suffix: str) -> str:
    """The domain of a network that has none of its own.

    ``domain`` is whose accounts use a network of no account in particular; ``suffix`` the setting
    ``guest.domain.suffix``, under which each account has a domain of its own.
    """
    if domain is None:
        # accounts must not share a made-up domain, or their names would seem to be in one namespace
        made_up = f"cs{account.id.split('-')[-1]}.{suffix}"
        return account.network_domain or _of_tree(session, account.domain) or zone.domain or made_up
    return _of_tree(session, domain) or zone.domain or suffix


def _of_tree(session: Session, domain: Domain) -> str | None:
    """The domain's, or that of the nearest one above it."""
    found: Domain | None = domain
    while found is not None:
        if found.network_domain:
            return found.network_domain
        found = session.get(Domain, found.parent_id) if found.parent_id is not None else None
    return None


def refresh(session: Session, network: Network, suffix: str) -> bool:
    """Let a network without a domain of its own have the one that it would inherit now; whether it changed."""
    if network.own_domain:
        return False
    now = inherited(session, account=network.account, domain=network.domain, zone=network.zone, suffix=suffix)
    changed = now != network.network_domain
    network.network_domain = now
    session.flush()
    return changed
