"""The supervisor for appliances without systemd: units are children of the agent and outlive it.

A unit's process leads a session of its own. ``run_dir/units/<name>`` holds its process id, start time and definition,
so that the next agent adopts it: it then watches a process that is not its child, which pidfds allow (pidfd_open(2)).
The path of that file is also in the environment of the process, by which one is found that was started but not yet
noted down when the agent was killed. Least privilege is set by setpriv(1).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import pwd
import select
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from appliance.engine.service import Unit
from appliance.errors import ApplyError
from appliance.settings import Settings

log = logging.getLogger(__name__)

MARK = "GATEHOUSE_UNIT"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#: seconds a unit has to end after SIGTERM
STOP_DEADLINE = 5.0
#: pauses before a unit that ends again and again is started again, in seconds; one that ran for a while starts over
FIRST_PAUSE, LONGEST_PAUSE, LONG_ENOUGH = 0.1, 10.0, 10.0
#: bytes of a log before it is moved aside to ``<name>.log.1``, and seconds between two looks at the sizes
LOG_LIMIT, LOG_INTERVAL = 1 << 20, 10.0


@dataclass
class _Process:
    """A unit that should run."""

    unit: Unit | None
    definition: str
    pid: int = 0
    #: open while the process lives; -1 otherwise
    pidfd: int = -1
    began: float = 0.0
    pause: float = 0.0
    #: when to start it again (time.monotonic()), while it does not run
    due: float = 0.0
    reason: str = ""

    def wait_longer(self, now: float) -> None:
        self.pause = min(LONGEST_PAUSE, 2 * self.pause or FIRST_PAUSE)
        self.due = now + self.pause


class DirectSupervisor:
    """Runs the units of one appliance; adopts those that an agent before this one left running."""

    def __init__(self, settings: Settings) -> None:
        self._directory = settings.run_dir / "units"
        self._logs = settings.log_dir
        self._processes: dict[str, _Process] = {}
        self._lock = threading.RLock()
        self._poll = select.epoll()
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._logs.mkdir(mode=0o750, parents=True, exist_ok=True)
        self._adopt()

    def watch(self, restarted: Callable[[str, str], None]) -> None:
        """Notice units that end, and start them again; then ``restarted(name, reason)`` is called, from a thread."""
        threading.Thread(target=self._watch, args=(restarted,), name="supervisor", daemon=True).start()

    # ---- what the engine calls

    def start(self, unit: Unit) -> None:
        """Run ``unit``; one that runs by another definition is replaced. Raises ApplyError."""
        with self._lock:
            known = self._processes.get(unit.name)
            if known is not None and known.definition == _definition(unit) and known.pidfd >= 0:
                make_writable(unit)  # of these there may be new ones
                known.unit = unit
                return
            self._end(unit.name)
            self._processes[unit.name] = process = _Process(unit, _definition(unit))
            try:
                self._spawn(process)
            except BaseException:
                # it may run already, and only its record could not be written
                self._end(unit.name)
                raise

    def stop(self, name: str) -> None:
        with self._lock:
            self._end(name)

    def restart(self, name: str) -> None:
        with self._lock:
            unit = self._processes[name].unit if name in self._processes else None
            if unit is None:
                raise ApplyError(f"unit {name} cannot be restarted: it is not one of the present document")
            self._end(name)
            self.start(unit)

    def signal(self, name: str, number: int) -> None:
        with self._lock:
            process = self._processes.get(name)
            if process is None or process.pidfd < 0:
                raise ApplyError(f"unit {name} does not run; its log: {self.log_tail(name)}")
            with contextlib.suppress(ProcessLookupError):  # it ended just now: started again, it reads what is new
                signal.pidfd_send_signal(process.pidfd, number)

    def pid(self, name: str) -> int | None:
        with self._lock:
            process = self._processes.get(name)
            if process is None or process.pidfd < 0 or _ended(process.pidfd):
                return None
            return process.pid

    def log_tail(self, name: str, lines: int = 20) -> str:
        try:
            with self._log(name).open("rb") as log_file:
                log_file.seek(max(0, log_file.seek(0, os.SEEK_END) - 8192))
                return "\n".join(log_file.read().decode(errors="replace").splitlines()[-lines:])
        except OSError:
            return ""

    def names(self) -> frozenset[str]:
        with self._lock:
            return frozenset(self._processes)

    # ---- processes

    def _log(self, name: str) -> Path:
        return self._logs / f"{name}.log"

    def _spawn(self, process: _Process) -> None:
        unit = process.unit
        assert unit is not None
        record_path = self._directory / unit.name
        make_writable(unit)
        command = _confined(unit)
        log_file = os.open(self._log(unit.name), os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
        try:
            child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log_file,
                stderr=log_file,
                cwd="/",
                env={"PATH": PATH, "LANG": "C.UTF-8", **_packages(), MARK: str(record_path)},
                start_new_session=True,
            )
        except OSError as error:
            raise ApplyError(f"unit {unit.name} cannot be started: {error}") from error
        finally:
            os.close(log_file)
        # the exit status is taken in _gone(); Popen would otherwise warn of a child it never waited for
        child.returncode = 0
        process.pid, process.began, process.due = child.pid, time.monotonic(), 0.0
        process.pidfd = os.pidfd_open(child.pid)
        self._poll.register(process.pidfd, select.EPOLLIN)
        record = {"pid": child.pid, "start": _start_time(child.pid), "definition": process.definition}
        temporary = self._directory / f".{unit.name}.new"
        temporary.write_text(json.dumps(record))
        temporary.replace(record_path)
        log.info("started %s as process %d", unit.name, child.pid)

    def _end(self, name: str) -> None:
        """Stop the unit with all its processes, and forget it."""
        process = self._processes.pop(name, None)
        if process is not None and process.pidfd >= 0:
            for number, patience in ((signal.SIGTERM, STOP_DEADLINE), (signal.SIGKILL, STOP_DEADLINE)):
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(process.pidfd, number)
                if _ended(process.pidfd, patience):
                    break
            self._gone(process)
        (self._directory / name).unlink(missing_ok=True)

    def _gone(self, process: _Process) -> str:
        """Let go of a process that ended, and end what it left in its session; returns how it ended."""
        self._poll.unregister(process.pidfd)
        os.close(process.pidfd)
        process.pidfd = -1
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        try:
            _, status = os.waitpid(process.pid, os.WNOHANG)
        except ChildProcessError:  # adopted: whoever reaps it learns its status
            return "ended"
        if os.WIFSIGNALED(status):
            return f"was ended by {signal.Signals(os.WTERMSIG(status)).name}"
        return f"exited with {os.waitstatus_to_exitcode(status)}"

    # ---- after a restart of the agent

    def _adopt(self) -> None:
        for path in self._directory.glob("[!.]*"):
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
                record = json.loads(path.read_text())
                pid = int(record["pid"])
                pidfd = os.pidfd_open(pid)
                if _start_time(pid) != record["start"]:  # the number belongs to another process by now
                    os.close(pidfd)
                    continue
                self._poll.register(pidfd, select.EPOLLIN)
                process = _Process(None, str(record["definition"]), pid, pidfd, time.monotonic())
                self._processes[path.name] = process
        for pid in (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal()):
            with contextlib.suppress(OSError):
                name = self._unit_of(pid)
                if name is not None and name not in self._processes and os.getsid(pid) == pid:
                    log.warning("ending process %d of %s, which an agent started and did not note down", pid, name)
                    os.killpg(pid, signal.SIGKILL)

    def _unit_of(self, pid: int) -> str | None:
        """Name of the unit of this supervisor that a process was started for. Raises OSError."""
        mark = f"{MARK}={self._directory}/".encode()
        for entry in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
            if entry.startswith(mark):
                return entry[len(mark) :].decode(errors="replace")
        return None

    # ---- the thread that notices when a unit ends

    def _watch(self, restarted: Callable[[str, str], None]) -> None:
        next_look = 0.0
        while True:
            with self._lock:
                now = time.monotonic()
                due = [process.due for process in self._processes.values() if process.pidfd < 0 and process.unit]
            # returns at once when a unit ends, one that was registered meanwhile included
            self._poll.poll(max(0.0, min([next_look, *due]) - now))
            try:
                with self._lock:
                    for name, process in list(self._processes.items()):
                        self._look_after(name, process, restarted)
                if time.monotonic() >= next_look:
                    next_look = time.monotonic() + LOG_INTERVAL
                    self._rotate()
            except Exception:
                log.exception("supervising units")
                time.sleep(1)

    def _look_after(self, name: str, process: _Process, restarted: Callable[[str, str], None]) -> None:
        now = time.monotonic()
        if process.pidfd >= 0 and _ended(process.pidfd):
            process.reason = f"{name} {self._gone(process)}"
            if now - process.began > LONG_ENOUGH:
                process.pause = 0.0
            process.wait_longer(now)
            log.warning("%s; starting it again in %.1f s", process.reason, process.pause)
        if process.pidfd < 0 and process.unit is not None and now >= process.due:
            try:
                self._spawn(process)
            except (ApplyError, OSError) as error:
                process.wait_longer(now)
                log.error("%s", error)
            else:
                restarted(name, f"{process.reason}; started again")

    def _rotate(self) -> None:
        for path in self._logs.glob("*.log"):
            if path.stat().st_size > LOG_LIMIT:
                # units hold the file open for appending: copy, then empty it
                shutil.copyfile(path, path.with_suffix(".log.1"))
                os.truncate(path, 0)


def _packages() -> dict[str, str]:
    """Where the agent has its packages from, when not from its interpreter: units in Python need the same."""
    return {name: value for name, value in os.environ.items() if name == "PYTHONPATH"}


def _definition(unit: Unit) -> str:
    return hashlib.sha256(repr((unit.argv, unit.user, sorted(unit.capabilities))).encode()).hexdigest()


def make_writable(unit: Unit) -> None:
    """Make the directories that the unit may write in, for its user."""
    owner = pwd.getpwnam(unit.user)
    for directory in unit.writable:
        directory.mkdir(mode=0o750, parents=True, exist_ok=True)
        os.chown(directory, owner.pw_uid, owner.pw_gid)


def _confined(unit: Unit) -> list[str]:
    """The unit's command behind setpriv(1): its user, only its capabilities, and no way to gain more."""
    capabilities = ",".join(["-all", *(f"+{name}" for name in sorted(unit.capabilities))])
    options = ["--no-new-privs", f"--bounding-set={capabilities}", f"--inh-caps={capabilities}"]
    if unit.user != "root":
        # setgroups(2) is denied in a user namespace that an unprivileged user made (user_namespaces(7))
        denied = Path("/proc/self/setgroups").read_text().strip() == "deny"
        options += [f"--reuid={unit.user}", f"--regid={pwd.getpwnam(unit.user).pw_gid}"]
        options += ["--keep-groups" if denied else "--init-groups", f"--ambient-caps={capabilities}"]
    return ["setpriv", *options, "--", *unit.argv]


def _ended(pidfd: int, timeout: float = 0.0) -> bool:
    """Whether the process ends within ``timeout`` seconds. A zombie has ended."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(timeout * 1000))


def _start_time(pid: int) -> int:
    """When a process started, in clock ticks since boot (proc(5), field 22). Raises OSError when there is none."""
    # the name of the program, in parentheses, may hold anything
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
