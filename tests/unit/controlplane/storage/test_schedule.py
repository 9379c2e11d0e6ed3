from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.storage.schedule import INTERVALS, parse

BERLIN = ZoneInfo("Europe/Berlin")
UTC_ZONE = ZoneInfo("UTC")


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("interval", "text", "zone", "after", "expected"),
    [
        ("HOURLY", "15", UTC_ZONE, "2026-11-24 21:15", "2026-11-24 22:15"),
        ("HOURLY", "15", UTC_ZONE, "2026-11-24 21:14:59", "2026-11-24 21:15"),
        # half an hour beside everybody else
        ("HOURLY", "0", ZoneInfo("Asia/Kolkata"), "2026-11-24 21:05", "2026-11-24 21:30"),
        ("DAILY", "30:2", UTC_ZONE, "2026-11-24 02:30", "2026-11-25 02:30"),
        ("DAILY", "30:2", BERLIN, "2026-11-24 00:00", "2026-11-24 01:30"),
        # the 24th is a Tuesday; 1 is Sunday, 3 Tuesday
        ("WEEKLY", "00:12:1", UTC_ZONE, "2026-11-24 00:00", "2026-11-29 12:00"),
        ("WEEKLY", "00:12:3", UTC_ZONE, "2026-11-24 13:00", "2026-12-01 12:00"),
        ("WEEKLY", "00:12:7", UTC_ZONE, "2026-11-24 13:00", "2026-11-28 12:00"),
        ("MONTHLY", "5:4:28", UTC_ZONE, "2027-02-28 04:05", "2027-03-28 04:05"),
        ("MONTHLY", "0:0:1", UTC_ZONE, "2026-12-15 00:00", "2027-01-01 00:00"),
        # 2026-03-29: 02:30 does not exist, so it is 03:30 of summer time
        ("DAILY", "30:2", BERLIN, "2026-03-28 12:00", "2026-03-29 01:30"),
        ("DAILY", "30:2", BERLIN, "2026-03-29 01:30", "2026-03-30 00:30"),
        # 2026-10-25: 02:30 comes twice, the first of summer time
        ("DAILY", "30:2", BERLIN, "2026-10-24 12:00", "2026-10-25 00:30"),
        ("DAILY", "30:2", BERLIN, "2026-10-25 00:30", "2026-10-26 01:30"),
    ],
)
def test_when_the_next_one_is(interval: str, text: str, zone: ZoneInfo, after: str, expected: str) -> None:
    assert parse(interval, text, zone).next_after(at(after)) == at(expected)


def test_an_hour_that_comes_twice_has_two_hourly_snapshots() -> None:
    schedule, moment, found = parse("HOURLY", "30", BERLIN), at("2026-10-24 23:00"), []
    for _ in range(4):
        moment = schedule.next_after(moment)
        found.append(moment.strftime("%H:%M"))
    assert found == ["23:30", "00:30", "01:30", "02:30"]


@pytest.mark.parametrize(
    ("interval", "text", "says"),
    [
        ("HOURLY", "60", "minute is 60"),
        ("HOURLY", "1:2", "written mm"),
        ("DAILY", "0:24", "hour is 24"),
        ("DAILY", "", "written mm:hh"),
        ("WEEKLY", "0:0:0", "day of the week is 0"),
        ("WEEKLY", "0:0:8", "from 1 to 7"),
        ("MONTHLY", "0:0:29", "from 1 to 28"),
        ("MONTHLY", "0:0:-1", "written"),
        ("DAILY", "٣:٤", "written"),
    ],
)
def test_a_schedule_that_is_none_is_refused(interval: str, text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        parse(interval, text, UTC_ZONE)


@given(
    st.sampled_from(INTERVALS),
    st.integers(0, 59),
    st.integers(0, 23),
    st.integers(1, 7),
    st.sampled_from(["UTC", "Europe/Berlin", "America/St_Johns", "Australia/Lord_Howe", "Pacific/Apia"]),
    st.datetimes(datetime(2020, 1, 1), datetime(2030, 1, 1)),
)
def test_the_next_one_is_later_and_within_its_interval(
    interval: str, minute: int, hour: int, day: int, zone: str, after: datetime
) -> None:
    fields = [minute, hour, day][: {"HOURLY": 1, "DAILY": 2}.get(interval, 3)]
    moment = after.replace(tzinfo=UTC)
    found = parse(interval, ":".join(map(str, fields)), ZoneInfo(zone)).next_after(moment)
    longest = {"HOURLY": timedelta(hours=2), "DAILY": timedelta(hours=49), "WEEKLY": timedelta(days=8)}
    assert moment < found <= moment + longest.get(interval, timedelta(days=32))
    assert found.second == found.microsecond == 0
