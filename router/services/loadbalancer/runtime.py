"""haproxy's runtime API on its socket (haproxy's management guide, chapter 9.3).

A client of our own in a page: the haproxy-stats package speaks HTTP only, which would take a statistics port of its
own, and reconfigures the root logger when it is imported.
"""

from __future__ import annotations

import csv
import io
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

#: seconds for one command
TIMEOUT = 2.0
#: commands of one line, which must fit into a buffer of haproxy's (16 KiB)
BATCH = 50

#: bits of srv_admin_state: in maintenance by command or by configuration
_MAINTENANCE = 0x01 | 0x04
_FRONTEND, _SERVER = "0", "2"


@dataclass(frozen=True)
class Server:
    """One server of a proxy, with counters since it was started. ``status`` is e.g. ``UP``, ``DOWN``, ``MAINT``."""

    proxy: str
    name: str
    status: str
    sessions: int
    bytes_in: int
    bytes_out: int


def ask(path: Path, *commands: str) -> str:
    """What haproxy answers to ``commands``. Raises OSError when it does not."""
    answers = []
    for start in range(0, len(commands), BATCH):
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(TIMEOUT)
            client.connect(str(path))
            client.sendall(";".join(commands[start : start + BATCH]).encode() + b"\n")
            parts = []
            while part := client.recv(1 << 16):
                parts.append(part)
        answers.append(b"".join(parts).decode(errors="replace"))
    return "".join(answers)


def description(path: Path) -> str:
    """The ``description`` of the configuration that runs; "" when nothing answers."""
    try:
        answer = ask(path, "show info")
    except OSError:
        return ""
    fields = dict(line.split(": ", 1) for line in answer.splitlines() if ": " in line)
    return fields.get("description", "")


def servers(path: Path) -> dict[str, dict[str, bool]]:
    """Proxy -> its servers' names -> whether it is in maintenance. Raises OSError."""
    return parse_servers(ask(path, "show servers state"))


def parse_servers(text: str) -> dict[str, dict[str, bool]]:
    """From the answer to ``show servers state``, version 1."""
    found: dict[str, dict[str, bool]] = {}
    for line in text.splitlines():
        fields = line.split()
        if len(fields) > 6 and fields[0].isdecimal():
            found.setdefault(fields[1], {})[fields[3]] = bool(int(fields[6]) & _MAINTENANCE)
    return found


def statistics(path: Path) -> tuple[dict[str, str], list[Server]]:
    """Proxy -> status of its listening side (``OPEN``), and all servers. Raises OSError."""
    return parse_statistics(ask(path, f"show stat -1 {1 + 4} -1"))


def parse_statistics(text: str) -> tuple[dict[str, str], list[Server]]:
    """From the answer to ``show stat``, CSV with a heading that begins with ``# ``."""
    open_proxies: dict[str, str] = {}
    found: list[Server] = []
    for row in csv.DictReader(io.StringIO(text.removeprefix("# "))):
        if row.get("type") == _FRONTEND:
            open_proxies[row["pxname"]] = row["status"]
        elif row.get("type") == _SERVER:
            found.append(
                Server(
                    row["pxname"],
                    row["svname"],
                    row["status"].split()[0],
                    int(row["stot"]),
                    int(row["bin"]),
                    int(row["bout"]),
                )
            )
    return open_proxies, found


def changes(proxy: str, now: dict[str, bool], wanted: Sequence[str], options: str, *, cookies: bool) -> Iterator[str]:
    """Commands that bring the servers of ``proxy`` from ``now`` to ``wanted`` (names, which are address and port).

    One that goes takes no new connection; those it has go on. It is deleted when it has none left, now or with a later
    change: until then haproxy refuses to.
    """
    added = [name for name in wanted if name not in now]
    for name in added:
        yield f"add server {proxy}/{name} {name} {options}"
        yield f"enable health {proxy}/{name}"
    if added and cookies:
        # servers added at run time have no cookie until all are made anew, which leaves the others' as they are
        yield f"enable dynamic-cookie backend {proxy}"
    for name in wanted:
        if now.get(name, True):
            yield f"set server {proxy}/{name} state ready"
    for name in now:
        if name not in wanted:
            yield f"set server {proxy}/{name} state maint"
            yield f"del server {proxy}/{name}"
