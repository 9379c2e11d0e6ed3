"""Keeps as many SSVMs as each zone needs, gives them what there is to do, and lets go of what nobody needs."""

from __future__ import annotations

import logging
from datetime import timedelta

from sqlalchemy import and_, select
from sqlalchemy.orm import Session

from controlplane.convergence.reconciler import Reconciler
from controlplane.core import Core
from controlplane.imagestores import copies, jobs, links, shares, zones
from controlplane.store.models import Appliance, StorageJob, StorageLink, Zone, now
from controlplane.systemvms import rows as systemvms
from controlplane.systemvms.capacity import BLINK, Action, plan
from controlplane.systemvms.keeper import SystemVmKeeper
from controlplane.workflows.flow import Locks

log = logging.getLogger(__name__)

#: seconds between two looks while a copy waits for its source to know of it
SOON = 0.5
#: for which jobs that have ended are remembered
REMEMBERED = timedelta(days=7)


class StorageKeeper(SystemVmKeeper):
    """Looks after SSVMs and their jobs."""

    role = shares.ROLE

    def __init__(self, core: Core, reconciler: Reconciler, locks: Locks) -> None:
        super().__init__(core, reconciler, locks, core.storage_changed)

    def interval(self) -> float:
        with self._core.database.reading() as session:
            usual = self._core.configuration.get_int(session, "secstorage.loadscan.interval") / 1000
            pairing = select(StorageJob.id).where(
                StorageJob.kind == "copy", StorageJob.appliance_id.is_(None), StorageJob.ended.is_(None)
            )
            return min(usual, SOON) if session.scalar(pairing.limit(1)) is not None else usual

    def before(self) -> None:
        with self._core.database.reading() as session:
            due = self._due(session)
        if due:
            self._distribute()
        with self._core.database.reading() as session:
            behind = select(Appliance.id).where(
                Appliance.role == self.role,
                Appliance.removed.is_(None),
                Appliance.observed_generation < Appliance.desired_generation,
            )
            woken = list(session.scalars(behind))
        for appliance_id in woken:
            self._reconciler.wake(appliance_id)

    @staticmethod
    def _due(session: Session) -> bool:
        """Whether there is anything to change, so that a look at nothing writes nothing."""
        moment = now()
        copying = and_(StorageJob.kind == "copy", StorageJob.ended.is_(None))
        for wanted in (
            select(StorageLink.id).where(StorageLink.expires <= moment),
            select(StorageJob.id).where(StorageJob.ended < moment - REMEMBERED),
            select(StorageJob.id).where(StorageJob.appliance_id.is_(None), StorageJob.ended.is_(None)),
            select(StorageJob.id).where(copying),
        ):
            if session.scalar(wanted.limit(1)) is not None:
                return True
        return False

    def _distribute(self) -> None:
        with self._core.database.transaction() as session:
            links.expire(session)
            jobs.forget(session, now() - REMEMBERED)
            for zone in session.scalars(select(Zone)):
                most = self._core.configuration.get_int(session, "secstorage.session.max", zone=zone.id)
                serving = self._serving(session, zone.id)
                copies.pair(session, zone.id, serving, lambda zone_id: self._serving(session, zone_id))
                jobs.assign(session, zone.id, serving, most)

    def _serving(self, session: Session, zone_id: str) -> list[Appliance]:
        busy = self.busy()
        return [
            row
            for row in systemvms.of_zone(session, zone_id, self.role)
            if row.state == "Running" and row.id not in busy and self._reconciler.silence(row.id) < BLINK
        ]

    def plan(self, session: Session, zone: Zone) -> list[Action]:
        limits = zones.limits_of(self._core.configuration, session, zone)
        there = zones.ssvms_of(session, self._reconciler, zone.id, self.busy())
        waiting = jobs.unassigned(session, zone.id)
        actions = plan(limits, there, wanted=bool(waiting))
        doomed = {action.vm_id for action in actions}
        wanted = set(shares.names(session, zone.id))
        for one in there:
            row = session.get_one(Appliance, one.id)
            if one.serves and one.id not in doomed and wanted - set(row.shares):
                actions.append(Action("restart", one.id, "it needs the directory of an image store that was added"))
        return actions
