"""When snapshots are made: minutes, hours and days in a time zone (guide: chapter 13.5.2). Pure.

``mm`` every hour, ``mm:hh`` every day, ``mm:hh:d`` every week (1 is Sunday) or every month (1 to 28). Where clocks go
forward, a time that does not exist is the one an hour later; where they go back, one that comes twice is the first.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

#: interval -> fields of its schedule, each with what it may be
_FIELDS = {
    "HOURLY": (("minute", 0, 59),),
    "DAILY": (("minute", 0, 59), ("hour", 0, 23)),
    "WEEKLY": (("minute", 0, 59), ("hour", 0, 23), ("day of the week", 1, 7)),
    # days that every month has
    "MONTHLY": (("minute", 0, 59), ("hour", 0, 23), ("day of the month", 1, 28)),
}
#: intervals by the numbers that the API has for them
INTERVALS = tuple(_FIELDS)
_FORMS = {"HOURLY": "mm", "DAILY": "mm:hh", "WEEKLY": "mm:hh:day of the week", "MONTHLY": "mm:hh:day of the month"}


@dataclass(frozen=True)
class Schedule:
    """A repeating moment. ``day`` is of the week (1 is Sunday) or of the month; 0 where there is none."""

    interval: str
    minute: int
    hour: int
    day: int
    zone: ZoneInfo

    def next_after(self, moment: datetime) -> datetime:
        """The first time after ``moment``, in UTC."""
        if self.interval == "HOURLY":
            return self._next_hourly(moment)
        day = moment.astimezone(self.zone).date() - timedelta(days=1)
        while True:
            if self._has(day):
                at = datetime.combine(day, time(self.hour, self.minute), self.zone).astimezone(UTC)
                if at > moment:
                    return at
            day += timedelta(days=1)

    def _next_hourly(self, moment: datetime) -> datetime:
        at = moment.astimezone(UTC).replace(second=0, microsecond=0) + timedelta(minutes=1)
        # not by arithmetic of hours: where clocks are moved by half an hour the minute comes late, or early
        while at.astimezone(self.zone).minute != self.minute:
            at += timedelta(minutes=1)
        return at

    def _has(self, day: date) -> bool:
        if self.interval == "WEEKLY":
            return day.isoweekday() % 7 + 1 == self.day
        return self.interval == "DAILY" or day.day == self.day


def parse(interval: str, text: str, zone: ZoneInfo) -> Schedule:
    """The schedule that a text of the API says. Raises ValueError saying how it is written."""
    fields = _FIELDS[interval]
    parts = text.split(":")
    if len(parts) != len(fields) or not all(re.fullmatch(r"\d{1,2}", part, re.ASCII) for part in parts):
        raise ValueError(f"{text!r} is no {interval.lower()} schedule, which is written {_FORMS[interval]}")
    numbers = [int(part) for part in parts]
    for (name, low, high), number in zip(fields, numbers, strict=True):
        if not low <= number <= high:
            raise ValueError(f"the {name} is {number}, which must be from {low} to {high}")
    minute, hour, day = (*numbers, 0, 0)[:3]
    return Schedule(interval, minute, hour, day, zone)
