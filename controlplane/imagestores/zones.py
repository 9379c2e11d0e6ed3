"""A zone's secondary-storage VMs as ``systemvms.capacity`` looks at system VMs: by the jobs that they have."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from controlplane.configuration import Configuration
from controlplane.convergence.reconciler import Reconciler
from controlplane.imagestores import jobs, shares, stores
from controlplane.store.models import StorageJob, StorageLink, Zone, now
from controlplane.systemvms import capacity
from controlplane.systemvms import rows as systemvms
from controlplane.systemvms.capacity import Limits, SystemVm


def limits_of(configuration: Configuration, session: Session, zone: Zone) -> Limits:
    """The zone's settings. A zone without an image store has no SSVM, but for those that are there."""

    def number(name: str) -> int:
        return configuration.get_int(session, f"secstorage.{name}", zone=zone.id)

    open = bool(stores.of_zone(session, zone.id)) and zone.allocation_state == "Enabled"
    return capacity.limits_of(number, open=open)


def ssvms_of(session: Session, reconciler: Reconciler, zone_id: str, busy: Collection[str] = ()) -> list[SystemVm]:
    """The zone's SSVMs, the oldest first. A link that somebody may use counts as a job. ``busy``: those that something
    is being done to."""
    rows = systemvms.of_zone(session, zone_id, shares.ROLE)
    load = jobs.load(session, [row.id for row in rows])
    return [
        SystemVm(
            id=row.id,
            state=row.state,
            sessions=load[row.id] + _links(session, row.id),
            idle=(now() - max(row.created, _last_use(session, row.id) or row.created)).total_seconds(),
            silent=reconciler.silence(row.id),
            busy=row.id in busy,
        )
        for row in rows
    ]


def _links(session: Session, appliance_id: str) -> int:
    counted = select(func.count()).where(StorageLink.appliance_id == appliance_id, StorageLink.expires > now())
    return session.execute(counted).scalar_one()


def _last_use(session: Session, appliance_id: str) -> datetime | None:
    newest = select(func.max(StorageJob.ended)).where(StorageJob.appliance_id == appliance_id)
    return session.scalar(newest)
