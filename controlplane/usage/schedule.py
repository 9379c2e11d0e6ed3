"""When usage records are made, and of which stretches of time (guide: chapter 14.1). Pure.

``usage.stats.job.aggregation.range`` 1440: once a day, of the whole day before, from midnight to midnight in
``usage.aggregation.timezone``. Otherwise: at ``usage.stats.job.exec.time``, and every so many minutes from then on
until the next day's, each time of what came since the time before. Both begin in ``usage.execution.timezone``; with
summer time a day has 23 or 25 hours, and a time of day that does not exist is the hour after.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

DAILY = 1440


@dataclass(frozen=True)
class Schedule:
    """``minutes`` is the range, ``at`` the time of day in ``execution`` that jobs begin, ``days`` the zone of days."""

    minutes: int
    at: time
    execution: ZoneInfo
    days: ZoneInfo

    def start_of(self, moment: datetime) -> datetime:
        """The newest boundary at or before ``moment``: where the first stretch begins that has it in it."""
        if self.minutes == DAILY:
            return _instant(moment.astimezone(self.days).date(), time(0), self.days)
        day = moment.astimezone(self.execution).date()
        boundary = self._first_of(day)
        if boundary > moment:
            boundary = self._first_of(day - timedelta(days=1))
        while (later := self.end_after(boundary)) <= moment:
            boundary = later
        return boundary

    def end_after(self, start: datetime) -> datetime:
        """The first boundary after ``start``: the end of the stretch that begins there."""
        if self.minutes == DAILY:
            return _instant(start.astimezone(self.days).date() + timedelta(days=1), time(0), self.days)
        day = start.astimezone(self.execution).date()
        anchor = self._first_of(day)
        if anchor > start:
            anchor = self._first_of(day - timedelta(days=1))
        following = self._first_of(anchor.astimezone(self.execution).date() + timedelta(days=1))
        steps = (start - anchor) // timedelta(minutes=self.minutes) + 1
        return min(anchor + steps * timedelta(minutes=self.minutes), following)

    def due(self, end: datetime) -> datetime:
        """When the records of a stretch that ends at ``end`` are made: at once, or at the day's time after it."""
        if self.minutes != DAILY:
            return end
        day = end.astimezone(self.execution).date()
        moment = self._first_of(day)
        return moment if moment >= end else self._first_of(day + timedelta(days=1))

    def _first_of(self, day: date) -> datetime:
        return _instant(day, self.at, self.execution)


def _instant(day: date, at: time, where: ZoneInfo) -> datetime:
    return datetime.combine(day, at, where).astimezone(UTC)
