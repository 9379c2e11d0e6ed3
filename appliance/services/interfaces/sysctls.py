"""Kernel parameters under /proc/sys (sysctl(8))."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from appliance.errors import ApplyError

_ROOT = Path("/proc/sys")


def wrong(values: Mapping[str, str]) -> dict[str, str | None]:
    """Those of ``values`` (path below /proc/sys -> value) that differ, with what they are; None: not in this kernel."""
    found: dict[str, str | None] = {}
    for name, value in values.items():
        try:
            now = (_ROOT / name).read_text("ascii").strip()
        except FileNotFoundError:
            # a kernel without IPv6 has nothing to turn off
            if not name.startswith("net/ipv6/"):
                found[name] = None
            continue
        if now != value:
            found[name] = now
    return found


def write(values: Mapping[str, str]) -> None:
    """Set what differs. Raises ApplyError."""
    for name in wrong(values):
        try:
            (_ROOT / name).write_text(values[name], "ascii")
        except OSError as error:
            raise ApplyError(f"sysctl {name.replace('/', '.')} cannot be set to {values[name]}: {error}") from error


def write_if_ours(values: Mapping[str, str]) -> None:
    """Set what can be set from here: some parameters belong to the whole machine and are read-only in a namespace."""
    for name, value in values.items():
        path = _ROOT / name
        try:
            if path.exists() and int(path.read_text("ascii")) < int(value):
                path.write_text(value, "ascii")
        except PermissionError:
            continue
