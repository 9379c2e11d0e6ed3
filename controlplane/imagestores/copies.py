"""Copies between zones: an SSVM that has the object and one that wants it get to know each other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from controlplane.convergence.desired import desire
from controlplane.imagestores import jobs, links
from controlplane.store.models import Appliance, StorageJob, StorageLink, now

#: that a copy may take; it is made anew when its link has ended
PATIENCE = timedelta(days=2)


def pair(
    session: Session, zone_id: str, serving: Sequence[Appliance], others: Callable[[str], Sequence[Appliance]]
) -> None:
    """Give copy jobs that wait to an SSVM each, with a link at one of their source's zone.

    A job whose source is gone is given back first, and goes on from its part.
    """
    statement = select(StorageJob).where(
        StorageJob.zone_id == zone_id, StorageJob.kind == "copy", StorageJob.ended.is_(None)
    )
    for job in session.scalars(statement.order_by(StorageJob.created)):
        if job.appliance_id is not None:
            if _has_link(session, job):
                continue
            desire(session, job.appliance_id)
        job.appliance_id = None
        able = [row for row in serving if jobs.has_store(session, row, job.store_id)]
        sources = [
            row for row in others(job.fields["source_zone"]) if jobs.has_store(session, row, job.fields["source_store"])
        ]
        if not able or not sources:
            continue
        load = jobs.load(session, [row.id for row in able])
        chosen = min(able, key=lambda row: load[row.id])
        url = links.for_peer(session, sources[0], job, chosen, now() + PATIENCE)
        job.appliance_id, job.fields = chosen.id, {**job.fields, "url": url, "peer": sources[0].id}
        session.flush()
        desire(session, chosen.id)


def _has_link(session: Session, job: StorageJob) -> bool:
    link = select(StorageLink.id).where(StorageLink.subject_id == job.id, StorageLink.expires > now())
    return session.scalars(link.limit(1)).first() is not None
