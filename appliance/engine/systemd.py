"""The supervisor for appliances with systemd as first process: a unit of a document is a service unit under /run.

``/run/systemd/system/gatehouse-<name>.service`` is the unit's definition, so the next agent adopts what it finds there,
and everything goes with the boot. systemd starts a unit again when it ends; this supervisor notices by a pidfd
(pidfd_open(2)) and tells. The main process is looked up in the unit's control group, which costs no call to systemd.
Least privilege is systemd.exec(5)'s: see ``definition``.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
import threading
from collections.abc import Callable, Iterable
from pathlib import Path

from appliance.engine.direct import make_writable
from appliance.engine.service import Unit
from appliance.errors import ApplyError, CommandError
from appliance.run import run
from appliance.settings import Settings

log = logging.getLogger(__name__)

UNITS = Path("/run/systemd/system")
GROUPS = Path("/sys/fs/cgroup/system.slice")
PREFIX = "gatehouse-"
#: seconds between two looks for the new process of a unit that ended
LOOK = 0.05
#: devices of a unit that sets up links: tunnels are made through them
LINK_DEVICES = ("/dev/net/tun", "/dev/ppp")

_SANDBOX = """\
NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=yes
ProtectProc=invisible
PrivateTmp=disconnected
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
ProtectClock=yes
ProtectHostname=yes
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM
"""


def definition(unit: Unit) -> str:
    """The unit file. Pure.

    The unit sees the machine read-only but for ``writable``, has its own /tmp, no devices, and only its capabilities.
    One that may set up links also gets the tunnel devices and may write kernel parameters.
    """
    capabilities = " ".join(f"CAP_{name.upper()}" for name in sorted(unit.capabilities))
    families = ["AF_UNIX", "AF_INET", "AF_INET6", "AF_NETLINK"]
    if "net_raw" in unit.capabilities or "net_admin" in unit.capabilities:
        families.append("AF_PACKET")
    lines = [
        "[Unit]",
        f"Description=Gatehouse {unit.name}",
        "DefaultDependencies=no",
        "Conflicts=shutdown.target",
        "Before=shutdown.target",
        "StartLimitIntervalSec=0",
        "CollectMode=inactive-or-failed",
        "[Service]",
        "Type=exec",
        f"ExecStart={' '.join(map(_quoted, unit.argv))}",
        f"User={unit.user}",
        "Restart=always",
        "RestartSec=100ms",
        "RestartSteps=7",
        "RestartMaxDelaySec=10s",
        "TimeoutStopSec=5s",
        f"CapabilityBoundingSet={capabilities}",
        *([f"AmbientCapabilities={capabilities}"] if capabilities and unit.user != "root" else []),
        *(f"ReadWritePaths={_quoted(str(path))}" for path in unit.writable),
        f"RestrictAddressFamilies={' '.join(families)}",
    ]
    if "net_admin" in unit.capabilities:
        lines += ["DevicePolicy=closed", *(f"DeviceAllow={device} rw" for device in LINK_DEVICES)]
    else:
        lines += ["PrivateDevices=yes", "ProtectKernelTunables=yes"]
    return "\n".join(lines) + "\n" + _SANDBOX


def _quoted(word: str) -> str:
    """One argument of ExecStart= (systemd.service(5), "Command lines"; systemd.unit(5), specifiers)."""
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$").replace("\n", "\\n")
    return f'"{escaped}"'


class SystemdSupervisor:
    """Runs the units of the appliance that this machine is."""

    def __init__(self, settings: Settings) -> None:
        self._lock = threading.RLock()
        self._poll = select.epoll()
        #: unit name -> (process id, pidfd) of the main process that is known
        self._known: dict[str, tuple[int, int]] = {}
        #: units whose process ended by itself, until there is a new one -> how it ended
        self._ended: dict[str, str] = {}
        UNITS.mkdir(parents=True, exist_ok=True)
        for name in self.names():
            self.pid(name)

    def watch(self, restarted: Callable[[str, str], None]) -> None:
        """Notice units that ended and run again; then ``restarted(name, reason)`` is called, from a thread."""
        threading.Thread(target=self._watch, args=(restarted,), name="supervisor", daemon=True).start()

    # ---- what the engine calls

    def start(self, unit: Unit) -> None:
        """Run ``unit``; one that runs by another definition is replaced. Raises ApplyError."""
        with self._lock:
            text, path = definition(unit), _file(unit.name)
            old = _read(path)
            if old == text and self.pid(unit.name) is not None:
                return
            make_writable(unit)
            self._forget(unit.name)
            if old != text:
                temporary = path.with_name(f".{path.name}.new")
                temporary.write_text(text)
                temporary.replace(path)
            try:
                # a file that is new to systemd is found without a reload of all units, which takes far longer
                if old is not None and old != text:
                    _systemctl("daemon-reload")
                _systemctl("restart", path.name)
            except CommandError as error:
                raise ApplyError(
                    f"unit {unit.name} cannot be started: {error.stderr.strip()}; {self.log_tail(unit.name)}"
                ) from error
            self.pid(unit.name)

    def stop(self, name: str) -> None:
        with self._lock:
            self._forget(name)
            path = _file(name)
            if not path.exists():
                return
            try:
                _systemctl("stop", path.name)
            except CommandError as error:
                raise ApplyError(f"unit {name} cannot be stopped: {error.stderr.strip()}") from error
            path.unlink(missing_ok=True)

    def restart(self, name: str) -> None:
        with self._lock:
            path = _file(name)
            if not path.exists():
                raise ApplyError(f"unit {name} cannot be restarted: it is not one of the present document")
            self._forget(name)
            try:
                _systemctl("restart", path.name)
            except CommandError as error:
                raise ApplyError(f"unit {name} cannot be restarted: {error.stderr.strip()}") from error
            self.pid(name)

    def signal(self, name: str, number: int) -> None:
        with self._lock:
            if self.pid(name) is None:
                raise ApplyError(f"unit {name} does not run; its log: {self.log_tail(name)}")
            with contextlib.suppress(ProcessLookupError):  # it ended just now: started again, it reads what is new
                signal.pidfd_send_signal(self._known[name][1], number)

    def pid(self, name: str) -> int | None:
        with self._lock:
            known = self._known.get(name)
            if known is not None:
                if not _is_over(known[1]):
                    return known[0]
                self._forget(name)
                self._ended.setdefault(name, "ended")
            pid = _main_process(name)
            if pid is None:
                return None
            try:
                pidfd = os.pidfd_open(pid)
            except ProcessLookupError:
                return None
            self._known[name] = (pid, pidfd)
            self._poll.register(pidfd, select.EPOLLIN)
            return pid

    def log_tail(self, name: str, lines: int = 20) -> str:
        """The newest lines that the unit printed, and what systemd said of it."""
        argv = ["journalctl", "--quiet", "--output=cat", f"--lines={lines}", f"--unit={_file(name).name}"]
        return run(argv, check=False).stdout.strip()

    def names(self) -> frozenset[str]:
        return frozenset(
            path.name.removeprefix(PREFIX).removesuffix(".service") for path in UNITS.glob(f"{PREFIX}*.service")
        )

    # ---- the thread that notices when a unit ends

    def _forget(self, name: str) -> None:
        """Watch its process no longer; what happens to it now is our doing."""
        self._ended.pop(name, None)
        known = self._known.pop(name, None)
        if known is not None:
            self._poll.unregister(known[1])
            os.close(known[1])

    def _watch(self, restarted: Callable[[str, str], None]) -> None:
        while True:
            # returns at once when a process ends, one that was registered meanwhile included
            self._poll.poll(LOOK if self._ended else None)
            try:
                with self._lock:
                    back = self._look()
                for name, reason in back:
                    restarted(name, reason)
            except Exception:
                log.exception("supervising units")

    def _look(self) -> Iterable[tuple[str, str]]:
        """Units that have a new process since theirs ended, with the reason."""
        for name, (_, pidfd) in list(self._known.items()):
            if _is_over(pidfd):
                self.pid(name)
        back = []
        for name in list(self._ended):
            if not _file(name).exists():
                del self._ended[name]
            elif self.pid(name) is not None:
                del self._ended[name]
                back.append((name, f"{name} {self._how(name)}; started again"))
        return back

    def _how(self, name: str) -> str:
        """How the unit's last process ended, as systemd noted it down."""
        for line in reversed(self.log_tail(name, 10).splitlines()):
            _, found, status = line.partition("Main process exited, ")
            if found:
                return f"ended ({status.strip()})"
        return "ended"


def _file(name: str) -> Path:
    return UNITS / f"{PREFIX}{name}.service"


def _read(path: Path) -> str | None:
    try:
        return path.read_text()
    except FileNotFoundError:
        return None


def _systemctl(*arguments: str) -> None:
    run(["systemctl", "--quiet", "--no-ask-password", *arguments])


def _main_process(name: str) -> int | None:
    """The oldest process of the unit's control group whose parent is systemd."""
    try:
        pids = (GROUPS / _file(name).name / "cgroup.procs").read_text().split()
    except OSError:
        return None
    found = []
    for pid in pids:
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            if fields[1] == "1" and fields[0] not in "ZX":
                found.append((int(fields[19]), int(pid)))
    return min(found)[1] if found else None


def _is_over(pidfd: int) -> bool:
    """Whether the process has ended. A zombie has."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(0))
