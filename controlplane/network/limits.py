"""What counts against the quotas of accounts (guide: chapter 14.2 to 14.5)."""

from __future__ import annotations

from sqlalchemy import ColumnElement, func, select, union_all
from sqlalchemy.orm import Session

from controlplane.configuration import Configuration
from controlplane.errors import LimitError
from controlplane.storage.settings import PRIMARY, SECONDARY, SNAPSHOTS, VOLUMES
from controlplane.store.models import Account, Network, PublicIp, Snapshot, StoredImage, Template, Vm, Volume

VMS = "max.account.user.vms"
PUBLIC_IPS = "max.account.public.ips"
NETWORKS = "max.account.networks"
#: ISOs too
TEMPLATES = "max.account.templates"

#: of ``Account.type``; has no limits
_ROOT_ADMIN = 1
#: VMs that take no place any more
_GONE = ("Destroyed", "Expunging", "Error")


def check(
    session: Session, configuration: Configuration, account: Account, setting: str, *, used: int, more: int = 1
) -> None:
    """Raise LimitError when ``used + more`` goes over the account's limit (``max.account.*``; -1 is none)."""
    limit = limit_of(session, configuration, account, setting)
    if limit is not None and limit < used + more:
        raise LimitError(
            f"Maximum number of resources ({setting}) for account {account.name} is {limit}, {used} are in use"
        )


def limit_of(session: Session, configuration: Configuration, account: Account, setting: str) -> int | None:
    """The account's limit, None when it has none."""
    limit = configuration.get_int(session, setting, account=account.id, domain=account.domain_id)
    return limit if account.type != _ROOT_ADMIN and limit >= 0 else None


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
    elif setting in (VOLUMES, PRIMARY):
        counted = (Volume.account_id == account.id) & Volume.removed.is_(None) & (Volume.state != "Destroy")
    elif setting in (SNAPSHOTS, SECONDARY):
        counted = (Snapshot.account_id == account.id) & Snapshot.removed.is_(None) & (Snapshot.state != "Error")
    else:
        raise ValueError(f"nothing is counted for {setting}")
    size = {PRIMARY: Volume.size, SECONDARY: Snapshot.physical_size}.get(setting)
    if size is None:
        return session.execute(select(func.count()).where(counted)).scalar_one()
    taken = int(session.execute(select(func.coalesce(func.sum(size), 0)).where(counted)).scalar_one())
    if setting == SECONDARY:
        taken += _images(session, account)
    # whole GiB, begun ones too
    return -(-taken >> 30)


def _images(session: Session, account: Account) -> int:
    """Bytes of the account's templates, ISOs and uploaded volumes in image stores, in each zone."""
    owners = union_all(
        select(Template.id).where(Template.account_id == account.id),
        select(Volume.id).where(Volume.account_id == account.id),
    )
    counted = select(func.coalesce(func.sum(StoredImage.physical_size), 0)).where(
        StoredImage.owner_type.in_(("Template", "Volume")),
        StoredImage.owner_id.in_(owners),
        StoredImage.removed.is_(None),
    )
    return int(session.execute(counted).scalar_one() or 0)


def check_secondary(session: Session, configuration: Configuration, account: Account) -> int | None:
    """Bytes that the account may still have in secondary storage, None without a limit.

    Raises LimitError when these are less than a GiB.
    """
    taken = used(session, account, SECONDARY)
    try:
        check(session, configuration, account, SECONDARY, used=taken)
    except LimitError as error:
        raise LimitError(f"{error.text}; delete snapshots, templates or ISOs") from error
    limit = limit_of(session, configuration, account, SECONDARY)
    return (limit - taken) << 30 if limit is not None else None
