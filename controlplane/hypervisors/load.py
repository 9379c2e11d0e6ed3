"""How busy a host is."""

from __future__ import annotations

from pathlib import Path

_STAT, _MEMINFO = Path("/proc/stat"), Path("/proc/meminfo")


class Meter:
    """The share of the processors' time that is used, from counters that only grow."""

    def __init__(self) -> None:
        self._last: tuple[int, int] | None = None

    def percent(self, used: int, idle: int) -> float | None:
        """Of the time since the last call; None at the first. ``used`` and ``idle`` are in whatever unit."""
        last, self._last = self._last, (used, idle)
        if last is None:
            return None
        busy, passed = used - last[0], used + idle - sum(last)
        return round(100 * busy / passed, 2) if passed > 0 and busy >= 0 else None


def processor_times() -> tuple[int, int]:
    """Used and idle time of this machine's processors since it booted, in clock ticks (proc(5), /proc/stat)."""
    user, nice, system, idle, waiting, *interrupts = map(int, _STAT.read_text().splitlines()[0].split()[1:8])
    return user + nice + system + sum(interrupts), idle + waiting


def memory_used() -> int:
    """Bytes of this machine's memory that programs could not get (proc(5), /proc/meminfo)."""
    lines = dict(line.split(":", 1) for line in _MEMINFO.read_text().splitlines())
    kib = {name: int(lines[name].split()[0]) for name in ("MemTotal", "MemAvailable")}
    return kib["MemTotal"] - kib["MemAvailable"] << 10
