"""The rows of image stores: which a zone has, and where something new goes."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from controlplane import events
from controlplane.errors import ParameterError
from controlplane.store.defaults import SYSTEM_ACCOUNT_ID
from controlplane.store.models import ImageStore
from ssvm.services.storage.model.report import StoreReport


def of_zone(session: Session, zone_id: str) -> list[ImageStore]:
    """The stores that a zone can use, its own first, the oldest first."""
    statement = select(ImageStore).where(
        or_(ImageStore.zone_id == zone_id, ImageStore.zone_id.is_(None)), ImageStore.removed.is_(None)
    )
    return list(session.scalars(statement.order_by(ImageStore.zone_id.is_(None), ImageStore.created, ImageStore.id)))


def choose(session: Session, zone_id: str, zone_name: str) -> ImageStore:
    """Where something new of a zone goes: the store with the most room that works. Raises ParameterError."""
    there = of_zone(session, zone_id)
    if not there:
        raise ParameterError(f"zone {zone_name} has no secondary storage; add some with addImageStore")
    writable = [store for store in there if not store.read_only]
    if not writable:
        raise ParameterError(f"all image stores of zone {zone_name} are read-only; see updateImageStore")
    working = [store for store in writable if store.healthy is not False] or writable
    # one that does not tell (S3) has room; with equals the zone's own and oldest
    return max(working, key=lambda store: store.free if store.free is not None else 1 << 60)


def take(session: Session, reports: Iterable[StoreReport]) -> None:
    """Note how stores are, and tell people when one begins to fail or works again."""
    for report in reports:
        store = session.get(ImageStore, report.id)
        if store is None or store.removed is not None:
            continue
        if report.healthy != store.healthy and (store.healthy is not None or not report.healthy):
            text = "works again" if report.healthy else f"does not work: {report.detail}"
            events.record(
                session,
                "IMAGESTORE.HEALTH",
                f"image store {store.name} {text}",
                account_id=SYSTEM_ACCOUNT_ID,
                level="INFO" if report.healthy else "WARN",
                resource=("ImageStore", store.id),
            )
        store.healthy, store.detail = report.healthy, report.detail or None
        store.total, store.free = report.total, report.free
