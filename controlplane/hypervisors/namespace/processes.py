"""Processes of instances: who they are across control-plane restarts, and how they end."""

from __future__ import annotations

import json
import os
import select
import signal
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

#: in an instance's folder: PID 1 of the instance as it was started last
PROCESS = "process.json"

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True)
class Process:
    """A process that is not mistaken for a later one with the same number, not even after a reboot."""

    pid: int
    #: field 22 of /proc/PID/stat, in clock ticks since boot (proc_pid_stat(5))
    start: int
    boot: str

    @classmethod
    def of(cls, pid: int) -> Process | None:
        """The process that has this number now, or None."""
        found = _stat(pid)
        return cls(pid, found[1], _BOOT_ID.read_text().strip()) if found else None

    def alive(self) -> bool:
        """Whether it runs; a zombie does not."""
        found = _stat(self.pid)
        return found is not None and found[0] not in "ZX" and found[1] == self.start and _boot_is(self.boot)


def recorded(folder: Path) -> Process | None:
    """PID 1 of the instance in ``folder`` as it was started last, alive or not."""
    try:
        return Process(**json.loads((folder / PROCESS).read_text()))
    except (FileNotFoundError, ValueError, TypeError):
        return None


def running(folder: Path) -> Process | None:
    """PID 1 of the instance in ``folder``, if it runs."""
    process = recorded(folder)
    return process if process is not None and process.alive() else None


def _boot_is(boot: str) -> bool:
    return _BOOT_ID.read_text().strip() == boot


def parse_stat(text: str) -> tuple[str, int]:
    """State letter and start time of a /proc/PID/stat line; the command's name in it can hold anything."""
    fields = text.rpartition(")")[2].split()
    return fields[0], int(fields[19])


def _stat(pid: int) -> tuple[str, int] | None:
    try:
        return parse_stat(Path(f"/proc/{pid}/stat").read_text(errors="replace"))
    except (FileNotFoundError, ProcessLookupError):
        return None


def members(pid: int) -> list[int]:
    """Every process in the PID namespace that ``pid`` leads, itself left out."""
    try:
        namespace = (Path(f"/proc/{pid}/ns/pid")).readlink()
    except OSError:
        return []
    found = []
    with os.scandir("/proc") as entries:
        numbers = [int(entry.name) for entry in entries if entry.name.isdigit()]
    for number in numbers:
        # it may end while we look; with no right to look it is not ours
        with suppress(OSError):
            if number != pid and Path(f"/proc/{number}/ns/pid").readlink() == namespace:
                found.append(number)
    return found


def _running(pid: int) -> bool:
    found = _stat(pid)
    return found is not None and found[0] not in "ZX"


def terminate(process: Process, grace: float) -> None:
    """End the PID namespace that ``process`` leads: everybody is asked (SIGTERM), after ``grace`` seconds made to.

    Returns when all of them are gone. Raises TimeoutError when the kernel does not let go of them.
    """
    try:
        descriptor = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return
    try:
        # looked at only now: from here on the descriptor holds the very process that was found alive
        if process.alive():
            with suppress(ProcessLookupError):
                if grace > 0:
                    _ask(process, descriptor, grace)
                # the end of its PID 1 ends a PID namespace (pid_namespaces(7))
                signal.pidfd_send_signal(descriptor, signal.SIGKILL)
            if not select.select([descriptor], [], [], 10)[0]:
                raise TimeoutError(f"process {process.pid} does not end after SIGKILL")
    finally:
        os.close(descriptor)


def ends(process: Process, seconds: float) -> bool:
    """Whether it has ended, ``seconds`` from now at the latest."""
    try:
        descriptor = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return True
    try:
        # looked at only now: from here on the descriptor holds the very process that was found alive
        return not process.alive() or bool(select.select([descriptor], [], [], seconds)[0])
    finally:
        os.close(descriptor)


def _ask(process: Process, descriptor: int, grace: float) -> None:
    # init stands still meanwhile, so that it respawns nobody
    signal.pidfd_send_signal(descriptor, signal.SIGSTOP)
    asked = members(process.pid)
    for pid in asked:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + grace
    pause = 0.002
    while time.monotonic() < deadline and any(_running(pid) for pid in asked):
        time.sleep(pause)
        pause = min(pause * 2, 0.05)
