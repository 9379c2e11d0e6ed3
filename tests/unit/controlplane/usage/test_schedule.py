"""When usage records are made and of what time, summer time included."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.timezones import zone
from controlplane.usage.schedule import DAILY, Schedule

NEW_YORK = zone("America/New_York")


def daily(at: str, execution: str = "GMT", days: str = "GMT") -> Schedule:
    return Schedule(DAILY, time.fromisoformat(at), zone(execution), zone(days))


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def test_whole_days_of_one_zone_made_at_a_time_of_another() -> None:
    """The guide's first example: at 00:15 in Los Angeles, of days in Greenwich."""
    schedule = daily("00:15", "PST", "GMT")
    start = schedule.start_of(utc("2026-01-05 17:00"))
    assert start == utc("2026-01-05 00:00")
    assert schedule.end_after(start) == utc("2026-01-06 00:00")
    assert schedule.due(utc("2026-01-06 00:00")) == utc("2026-01-06 08:15")


def test_days_in_new_york_have_23_and_25_hours_when_the_clocks_change() -> None:
    """The guide's second example, at two o'clock, which on 8 March 2026 does not exist."""
    schedule = daily("02:00", "America/New_York", "America/New_York")
    for day, hours, due in (
        ("2026-03-07", 24, "2026-03-08 07:00"),
        ("2026-03-08", 23, "2026-03-09 06:00"),
        ("2026-11-01", 25, "2026-11-02 07:00"),
    ):
        start = datetime.fromisoformat(day).replace(tzinfo=NEW_YORK).astimezone(UTC)
        end = schedule.end_after(start)
        assert (end - start, schedule.due(end)) == (timedelta(hours=hours), utc(due)), day
        assert schedule.start_of(end - timedelta(seconds=1)) == start


def test_every_ten_hours_from_a_time_of_day_on() -> None:
    schedule = Schedule(600, time(0, 15), zone("GMT"), zone("GMT"))
    boundaries = [utc("2026-01-05 00:15")]
    for _ in range(4):
        boundaries.append(schedule.end_after(boundaries[-1]))
    assert boundaries[1:] == [
        utc(text) for text in ("2026-01-05 10:15", "2026-01-05 20:15", "2026-01-06 00:15", "2026-01-06 10:15")
    ]
    assert schedule.start_of(utc("2026-01-05 00:14")) == utc("2026-01-04 20:15")
    # what was asked for in between ends where it would have ended
    assert schedule.end_after(utc("2026-01-05 12:34")) == utc("2026-01-05 20:15")
    assert schedule.due(utc("2026-01-05 20:15")) == utc("2026-01-05 20:15")


def test_no_such_zone() -> None:
    with pytest.raises(ValueError, match="no time zone 'Mars/Olympus'"):
        zone("Mars/Olympus")
    with pytest.raises(ValueError, match="no time zone"):
        zone("../../etc/passwd")


@given(
    st.sampled_from([1, 7, 60, 600, 1439, DAILY]),
    st.times(),
    st.sampled_from(["GMT", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe", "Pacific/Apia"]),
    st.sampled_from(["GMT", "Europe/Berlin", "Asia/Tokyo"]),
    st.datetimes(datetime(2020, 1, 1), datetime(2030, 1, 1)),
)
def test_stretches_follow_each_other_without_gap(
    minutes: int, at: time, execution: str, days: str, moment: datetime
) -> None:
    schedule = Schedule(minutes, at.replace(second=0, microsecond=0), zone(execution), zone(days))
    here = moment.replace(tzinfo=UTC)
    start = schedule.start_of(here)
    assert start <= here < schedule.end_after(start)
    for _ in range(4):
        end = schedule.end_after(start)
        assert timedelta() < end - start <= timedelta(hours=26)
        assert schedule.end_after(start + (end - start) / 2) == end
        assert end <= schedule.due(end) <= end + timedelta(hours=49)
        start = end
