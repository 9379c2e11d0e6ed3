"""Time zones by name."""

from __future__ import annotations

from zoneinfo import ZoneInfo

#: names that Java knows and the time zone database does not, or knows as something else
_ALIASES = {
    "AST": "America/Anchorage",
    "CST": "America/Chicago",
    "IST": "Asia/Kolkata",
    "JST": "Asia/Tokyo",
    "PST": "America/Los_Angeles",
}


def zone(name: str) -> ZoneInfo:
    """A time zone by its name in the time zone database, or Java's abbreviation. Raises ValueError."""
    try:
        return ZoneInfo(_ALIASES.get(name, name))
    except (OSError, KeyError, ValueError) as error:
        raise ValueError(f"there is no time zone {name!r}") from error
