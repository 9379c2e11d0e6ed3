"""Storage pools: where the next volume goes (guide: chapter 13.2)."""

from __future__ import annotations

import logging
from pathlib import Path

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from controlplane.configuration import Configuration
from controlplane.errors import CapacityError
from controlplane.hypervisors.base import HypervisorError
from controlplane.hypervisors.volumes import Volumes
from controlplane.setting import words
from controlplane.storage.settings import OVERPROVISIONING
from controlplane.store.models import StoragePool, Volume, Zone

log = logging.getLogger(__name__)


def ensure_defaults(session: Session, directory: Path) -> None:
    """Have the hypervisor's own pool in every zone."""
    for zone in session.scalars(select(Zone)):
        ensure_default(session, zone.id, str(directory))


def ensure_default(session: Session, zone_id: str, path: str) -> None:
    """Have the hypervisor's own pool in a zone."""
    own = select(StoragePool).where(StoragePool.zone_id == zone_id, StoragePool.is_default)
    row = session.scalars(own).one_or_none()
    if row is None:
        row = StoragePool(zone_id=zone_id, name="primary", is_default=True, path=path)
        session.add(row)
    # it may have been moved while the control plane was down
    row.path = path
    session.flush()


def extend(session: Session, zone_id: str) -> None:
    """Have the hypervisor's own pool in a zone that is new."""
    own = session.scalars(select(StoragePool).where(StoragePool.is_default).order_by(StoragePool.created)).first()
    if own is not None:
        ensure_default(session, zone_id, own.path)


def note_space(session: Session, volumes: Volumes) -> None:
    """Pools have the space that they have."""
    for pool in session.scalars(select(StoragePool).where(StoragePool.removed.is_(None))):
        try:
            space = volumes.space(Path(pool.path))
        except HypervisorError as error:
            log.error("%s", error)
            continue
        pool.total_bytes, pool.used_bytes = space.total, space.used


def tags_of(text: str | None) -> set[str]:
    """Comma-joined tags."""
    return set(words(text or ""))


def promised(session: Session, pool_id: str) -> int:
    """Bytes that the volumes of a pool have been promised."""
    statement = select(func.coalesce(func.sum(Volume.size), 0)).where(
        Volume.pool_id == pool_id, Volume.removed.is_(None)
    )
    return int(session.scalar(statement) or 0)


def choose(session: Session, configuration: Configuration, volumes: Volumes, volume: Volume) -> StoragePool:
    """The pool for a volume: with all tags of its offering, and room. Raises CapacityError."""
    wanted = tags_of(volume.disk_offering.tags if volume.disk_offering is not None else None)
    statement = select(StoragePool).where(
        StoragePool.zone_id == volume.zone_id,
        StoragePool.removed.is_(None),
        StoragePool.state == "Up",
        StoragePool.enabled,
    )
    candidates = [
        pool
        for pool in session.scalars(statement.order_by(StoragePool.created, StoragePool.id))
        if wanted <= tags_of(pool.tags)
    ]
    # the emptiest first
    rooms = [(room(session, configuration, volumes, pool), pool) for pool in candidates]
    fitting = [(left, pool) for left, pool in rooms if left >= volume.size]
    if not fitting:
        having = f" with the tags {', '.join(sorted(wanted))}" if wanted else ""
        raise CapacityError(f"no storage pool of the zone{having} has room for {volume.size >> 30} GiB")
    return max(fitting, key=lambda item: item[0])[1]


def room(session: Session, configuration: Configuration, volumes: Volumes, pool: StoragePool) -> int:
    """Bytes that may still be promised of a pool."""
    factor = float(configuration.get(session, OVERPROVISIONING, zone=pool.zone_id))
    return int(volumes.space(Path(pool.path)).total * factor) - promised(session, pool.id)
