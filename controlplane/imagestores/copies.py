"""Copies between zones: an SSVM that has the object and one that wants it get to know each other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from controlplane.convergence.desired import desire, generation_of
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
    there = {row.id: row for row in serving}
    for job in session.scalars(statement.order_by(StorageJob.created)):
        linked = _has_link(session, job)
        if job.appliance_id is not None and linked:
            continue
        if job.appliance_id is not None:
            desire(session, job.appliance_id)
            job.appliance_id = None
        if not linked:
            _introduce(session, job, serving, others(job.fields["source_zone"]))
        elif job.fields["for"] not in there:
            links.withdraw(session, job.id)
        elif session.get_one(Appliance, job.fields["peer"]).observed_generation >= job.fields["generation"]:
            # not before the source knows the link: it would be told that there is none
            job.appliance_id = job.fields["for"]
            session.flush()
            desire(session, job.appliance_id)


def _introduce(session: Session, job: StorageJob, serving: Sequence[Appliance], sources: Sequence[Appliance]) -> None:
    """Make the link, at a source that has the object, for whom the job will be given to."""
    able = [row for row in serving if jobs.has_store(session, row, job.store_id)]
    having = [row for row in sources if jobs.has_store(session, row, job.fields["source_store"])]
    if not able or not having:
        return
    load = jobs.load(session, [row.id for row in able])
    chosen, source = min(able, key=lambda row: load[row.id]), having[0]
    url = links.for_peer(session, source, job, chosen, now() + PATIENCE)
    known = {"url": url, "peer": source.id, "for": chosen.id, "generation": generation_of(session, source)}
    job.fields = {**job.fields, **known}
    session.flush()


def _has_link(session: Session, job: StorageJob) -> bool:
    link = select(StorageLink.id).where(StorageLink.subject_id == job.id, StorageLink.expires > now())
    return session.scalars(link.limit(1)).first() is not None
