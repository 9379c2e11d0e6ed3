"""Usage records: exact for what came and went inside their time, never twice, and checked."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import select

from controlplane.configuration import Configuration
from controlplane.store.database import Database
from controlplane.store.defaults import ADMIN_ACCOUNT_ID
from controlplane.store.models import Account, UsageJob, UsageRecord, UsageSpan
from controlplane.usage import aggregation, sanity, service
from controlplane.usage.schedule import Schedule
from controlplane.usage.types import UsageType
from tests.rows import Rows

MIDNIGHT = datetime(2026, 3, 7, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database.in_directory(tmp_path)
    opened.migrate()
    with opened.transaction() as session:
        rows = Rows(session)
        rows.add(Account(id=ADMIN_ACCOUNT_ID, name="admin", domain_id=rows.domain.id, type=1))
    yield opened
    opened.close()


def span(database: Database, begin: float, end: float | None, *, id: str = "vm-1", memory: int = 64) -> None:
    """A VM that ran from ``begin`` to ``end``, in hours after midnight."""
    with database.transaction() as session:
        session.add(
            UsageSpan(
                usage_type=UsageType.RUNNING_VM,
                subject_id=id,
                account_id="account-1",
                zone_id="zone-1",
                begin=MIDNIGHT + begin * HOUR,
                end=None if end is None else MIDNIGHT + end * HOUR,
                details={"name": id, "vm_id": id, "memory": memory},
            )
        )


def schedule(database: Database, **settings: str) -> Schedule:
    configuration = Configuration()
    with database.transaction() as session:
        for name, value in settings.items():
            configuration.set(session, name.replace("_", "."), value)
        return aggregation.schedule_of(session, configuration)


def made(database: Database) -> list[tuple[float, float, float]]:
    """Begin and end of each record in hours after midnight, and its hours."""
    with database.reading() as session:
        records = session.scalars(select(UsageRecord).order_by(UsageRecord.start, UsageRecord.raw_usage))
        return [
            ((record.start - MIDNIGHT) / HOUR, (record.end - MIDNIGHT) / HOUR, round(record.raw_usage, 6))
            for record in records
        ]


def due(database: Database, schedule: Schedule, hours: float) -> None:
    """Make all that is due at that time."""
    while True:
        with database.transaction() as session:
            if aggregation.make_due(session, schedule, MIDNIGHT + hours * HOUR) is None:
                return


def test_only_time_inside_the_day_counts_and_each_hour_once(database: Database) -> None:
    span(database, -3, 2)
    span(database, 5, 5.5)
    span(database, 23, 25)
    span(database, 26, None, id="vm-2")
    daily = schedule(database)
    due(database, daily, 24.2)
    # at 00:15 of the next day, not before
    assert made(database) == [(-24, 0, 3.0)]
    due(database, daily, 24.25)
    # what ran three times is one record
    assert made(database) == [(-24, 0, 3.0), (0, 24, 3.5)]
    due(database, daily, 24.5)
    assert len(made(database)) == 2
    due(database, daily, 96.5)
    assert made(database)[2:] == [(24, 48, 1.0), (24, 48, 22.0), (48, 72, 24.0), (72, 96, 24.0)]
    with database.reading() as session:
        assert [job.records for job in session.scalars(select(UsageJob).order_by(UsageJob.start))] == [1, 1, 2, 1, 1]


def test_a_vm_that_changed_its_size_has_a_record_for_each(database: Database) -> None:
    span(database, 0, 6, memory=64)
    span(database, 6, 8, memory=4096)
    due(database, schedule(database), 25)
    assert made(database) == [(0, 24, 2.0), (0, 24, 6.0)]


def test_records_until_now_are_not_made_again_by_the_job(database: Database) -> None:
    span(database, 1, None)
    daily = schedule(database)
    for hours in (10, 10, 13):
        while True:
            with database.transaction() as session:
                if aggregation.make_until(session, daily, MIDNIGHT + hours * HOUR) is None:
                    break
    assert made(database) == [(0, 10, 9.0), (10, 13, 3.0)]
    due(database, daily, 48.25)
    assert made(database)[2:] == [(13, 24, 11.0), (24, 48, 24.0)]


def test_the_zone_of_days_is_the_execution_s_where_only_that_is_set(database: Database) -> None:
    span(database, 20, 22)
    day = schedule(database, usage_execution_timezone="Asia/Tokyo")
    due(database, day, 60)
    # 20 o'clock in Greenwich is the next morning in Tokyo
    assert made(database) == [(15, 39, 2.0)]
    assert schedule(database, usage_aggregation_timezone="GMT").days.key == "GMT"


def test_shorter_ranges(database: Database) -> None:
    span(database, 0.5, 21)
    ranges = schedule(database, usage_stats_job_aggregation_range="600")
    due(database, ranges, 20.3)
    assert made(database) == [(0.25, 10.25, 9.75), (10.25, 20.25, 10.0)]
    due(database, ranges, 24.3)
    assert made(database)[2:] == [(20.25, 24.25, 0.75)]


def test_the_sanity_check_finds_what_cannot_be(database: Database) -> None:
    span(database, 0, 4)
    due(database, schedule(database), 25)
    assert service.check(database) == []
    with database.transaction() as session:
        good = session.scalars(select(UsageRecord)).one()
        common = {
            name: getattr(good, name)
            for name in ("usage_type", "usage_id", "subject_id", "account_id", "domain_id", "zone_id", "description")
        }
        # of time that was told of, and more of it than there is; ends after the check, so it is new
        late = datetime.now(UTC) + HOUR
        session.add(UsageRecord(**common, start=MIDNIGHT + HOUR, end=late, raw_usage=1e9))
    found = service.check(database)
    assert len(found) == 2
    assert "1000000000.0000 hours" in found[0] and "another record tells of too" in found[1]
    with database.reading() as session:
        assert not sanity.is_due(session, 0, late + 9 * DAY)
        assert not sanity.is_due(session, 30, datetime.now(UTC))
        assert sanity.is_due(session, 1, datetime.now(UTC) + 2 * DAY)
