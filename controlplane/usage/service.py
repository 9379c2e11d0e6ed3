"""What the usage server does by itself: records when they are due, the sanity check, old samples away."""

from __future__ import annotations

import logging
from datetime import timedelta

from controlplane import events
from controlplane.configuration import Configuration
from controlplane.store.database import Database
from controlplane.store.defaults import ADMIN_ACCOUNT_ID
from controlplane.store.models import now
from controlplane.usage import aggregation, sanity, traffic

log = logging.getLogger(__name__)


def work(database: Database, configuration: Configuration) -> None:
    """One turn. Stretches that were missed, e.g. while nothing ran, are caught up with one by one."""
    moment = now()
    with database.reading() as session:
        if not configuration.get_bool(session, aggregation.ENABLED):
            return
        schedule = aggregation.schedule_of(session, configuration)
        days = configuration.get_int(session, sanity.INTERVAL)
        kept = timedelta(hours=configuration.get_int(session, traffic.RETENTION))
    made = False
    while True:
        with database.transaction() as session:
            job = aggregation.make_due(session, schedule, moment)
        if job is None:
            break
        made = True
        log.info("usage: %d records from %s to %s", job.records, job.start, job.end)
    with database.reading() as session:
        due = sanity.is_due(session, days, moment)
    if due:
        check(database)
    if made:
        with database.transaction() as session:
            traffic.prune(session, moment - kept)


def check(database: Database) -> list[str]:
    """Check the records and tell administrators what is wrong with them."""
    with database.transaction() as session:
        problems = sanity.check(session, now())
        for problem in problems:
            text = f"usage sanity check (alert {sanity.ALERT}): {problem}"
            events.record(session, "ALERT.USAGE.SANITY", text, account_id=ADMIN_ACCOUNT_ID, level="ERROR")
    for problem in problems:
        log.error("usage sanity check: %s", problem)
    return problems
