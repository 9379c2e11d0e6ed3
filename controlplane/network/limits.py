"""What counts against the quotas of accounts (guide: chapter 14.2 to 14.5)."""

from __future__ import annotations

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import Session

from controlplane.store.models import Account, Network, PublicIp, Template, Vm

VMS = "max.account.user.vms"
PUBLIC_IPS = "max.account.public.ips"
NETWORKS = "max.account.networks"
#: ISOs too
TEMPLATES = "max.account.templates"

#: VMs that take no place any more
_GONE = ("Destroyed", "Expunging", "Error")


def used(session: Session, account: Account, setting: str) -> int:
    """How many of what ``setting`` limits the account has now.

    Locks the account's row, so that two requests at once cannot both take the last place.
    """
    session.refresh(account, with_for_update=True)
    counted: ColumnElement[bool]
    if setting == VMS:
        counted = (Vm.account_id == account.id) & Vm.removed.is_(None) & Vm.state.not_in(_GONE)
    elif setting == PUBLIC_IPS:
        counted = PublicIp.account_id == account.id
    elif setting == NETWORKS:
        counted = (Network.account_id == account.id) & Network.removed.is_(None)
    elif setting == TEMPLATES:
        counted = (Template.account_id == account.id) & Template.removed.is_(None)
    else:
        raise ValueError(f"nothing is counted for {setting}")
    return session.execute(select(func.count()).where(counted)).scalar_one()
