"""Reports of an SSVM: how its jobs and its stores are."""

from __future__ import annotations

import hashlib

from pydantic import ValidationError
from sqlalchemy.orm import Session

from appliance.schema.status import Status
from controlplane.imagestores import jobs, stores
from controlplane.imagestores.outcomes import settle
from controlplane.store.models import Appliance
from ssvm.services.storage.model.report import Report


def has_news(ssvm: Appliance, status: Status) -> bool:
    """Whether ``take`` would change anything."""
    report = _report(status)
    return report is not None and _digest(report) != ssvm.report_digest


def take(session: Session, ssvm: Appliance, status: Status) -> None:
    """Bring jobs and stores up to date, and do what follows the end of jobs."""
    report = _report(status)
    if report is None:
        return
    ssvm.report_digest = _digest(report)
    stores.take(session, report.stores)
    for job in jobs.take(session, ssvm.id, report.jobs):
        settle(session, job)


def _report(status: Status) -> Report | None:
    """None while the worker does not answer."""
    try:
        return Report.model_validate(status.reports["storage"])
    except (KeyError, ValidationError):
        return None


def _digest(report: Report) -> str:
    # the room that is left changes all the time, and is noted with whatever else happens
    rough = report.model_copy(
        update={"stores": tuple(one.model_copy(update={"free": (one.free or 0) >> 26}) for one in report.stores)}
    )
    return hashlib.sha256(rough.model_dump_json().encode()).hexdigest()
