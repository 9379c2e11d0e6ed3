"""Facts of the machine that a result can be judged by; nothing that says whose machine it is."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path
from typing import Any

from appliance.errors import CommandError
from appliance.run import run


def _first(pattern: str, text: str) -> str:
    match = re.search(pattern, text, re.MULTILINE)
    return match[1].strip() if match else ""


def facts() -> dict[str, Any]:
    """Processors, memory, kernel, distribution, versions of the programs measured, load at the start."""
    memory = int(_first(r"^MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text()))
    return {
        "cpu": _first(r"^model name\s*:\s*(.*)$", Path("/proc/cpuinfo").read_text()),
        "cpus": len(os.sched_getaffinity(0)),
        "memory_mb": memory // 1024,
        "kernel": _first(r"^(\d+\.\d+\.\d+)", platform.release()),
        "distribution": platform.freedesktop_os_release().get("PRETTY_NAME", ""),
        "python": platform.python_version(),
        "nft": _first(r"v([\d.]+)", _version("nft", "--version")),
        "dnsmasq": _first(r"version ([\d.]+)", _version("dnsmasq", "--version")),
        "load": round(os.getloadavg()[0], 2),
    }


def commit() -> str:
    """The git commit measured, with ``+`` when files differ from it; empty outside a work tree."""
    git = ["git", "-C", str(Path(__file__).parent)]
    try:
        head = run([*git, "rev-parse", "--short=12", "HEAD"]).stdout.strip()
        changed = run([*git, "status", "--porcelain", "--untracked-files=no"]).stdout.strip()
    except CommandError:
        return ""
    return head + ("+" if changed else "")


def _version(*argv: str) -> str:
    try:
        return run(argv).stdout
    except CommandError:
        return ""
