"""The supervisor for machines with systemd: what it writes, what it asks of systemd, and how it notices an end.

systemd is a double that notes what it is asked; processes are pipes, readable when their process has ended.
"""

from __future__ import annotations

import getpass
import os
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from appliance.engine import systemd
from appliance.engine.service import Unit
from appliance.engine.systemd import SystemdSupervisor, definition
from appliance.errors import ApplyError, CommandError
from appliance.settings import Settings

UNIT = Unit("dns", ("/usr/sbin/dnsmasq", "--keep-in-foreground"), user=getpass.getuser())
FILE = "gatehouse-dns.service"


class Systemd:
    """A double of systemd: each start gives the unit a new process."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, ...]] = []
        self.refuses = ""
        self.journal = ""
        #: unit -> process; process -> ends of its pipe
        self.processes: dict[str, int] = {}
        self.pipes: dict[int, tuple[int, int]] = {}
        self._next = 1000

    def run(self, argv: Sequence[str], *, check: bool = True) -> CompletedProcess[str]:
        if argv[0] == "journalctl":
            return CompletedProcess(argv, 0, self.journal, "")
        words = tuple(word for word in argv[1:] if not word.startswith("-"))
        self.asked.append(words)
        if self.refuses:
            raise CommandError(list(argv), 1, self.refuses)
        if words[0] == "restart":
            self.end(words[1])
            self.begin(words[1])
        elif words[0] == "stop":
            self.end(words[1])
        return CompletedProcess(argv, 0, "", "")

    def begin(self, file: str) -> None:
        self._next += 1
        self.processes[file], self.pipes[self._next] = self._next, os.pipe()

    def end(self, file: str) -> None:
        """The unit's process ends."""
        pid = self.processes.pop(file, None)
        if pid is not None:
            os.close(self.pipes[pid][1])

    def main_process(self, name: str) -> int | None:
        return self.processes.get(f"gatehouse-{name}.service")

    def pidfd(self, pid: int) -> int:
        return os.dup(self.pipes[pid][0])


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Systemd]:
    double = Systemd()
    monkeypatch.setattr(systemd, "UNITS", tmp_path / "units")
    monkeypatch.setattr(systemd, "run", double.run)
    monkeypatch.setattr(systemd, "_main_process", double.main_process)
    monkeypatch.setattr(os, "pidfd_open", double.pidfd)
    yield double
    for near, far in double.pipes.values():
        os.close(near)
        if far in [double.pipes[pid][1] for pid in double.processes.values()]:
            os.close(far)


@pytest.fixture
def supervisor(machine: Systemd) -> SystemdSupervisor:
    return SystemdSupervisor(Settings())


def lines(unit: Unit) -> list[str]:
    return definition(unit).splitlines()


def test_a_unit_has_its_capabilities_and_no_more() -> None:
    plain = lines(Unit("web", ("/usr/bin/web",), user="nobody"))
    assert "CapabilityBoundingSet=" in plain and "NoNewPrivileges=yes" in plain and "ProtectSystem=strict" in plain
    assert not [line for line in plain if line.startswith("AmbientCapabilities")]
    assert "PrivateDevices=yes" in plain and "ProtectKernelTunables=yes" in plain
    assert "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK" in plain
    bound = lines(Unit("dns", ("/x",), user="nobody", capabilities=frozenset({"net_raw", "net_bind_service"})))
    assert "CapabilityBoundingSet=CAP_NET_BIND_SERVICE CAP_NET_RAW" in bound
    assert "AmbientCapabilities=CAP_NET_BIND_SERVICE CAP_NET_RAW" in bound
    assert "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK AF_PACKET" in bound


def test_only_who_sets_up_links_gets_their_devices() -> None:
    links = lines(Unit("vpn", ("/x",), capabilities=frozenset({"net_admin"})))
    assert "DevicePolicy=closed" in links and "DeviceAllow=/dev/net/tun rw" in links
    assert "PrivateDevices=yes" not in links and "ProtectKernelTunables=yes" not in links


def test_words_of_a_command_are_words_for_systemd() -> None:
    unit = Unit("x", ("/bin/x", 'a "b"', "50%", "$HOME", "back\\slash", "two\nlines"), writable=(Path("/run/a b"),))
    assert r'ExecStart="/bin/x" "a \"b\"" "50%%" "$$HOME" "back\\slash" "two\nlines"' in lines(unit)
    assert 'ReadWritePaths="/run/a b"' in lines(unit)


def test_a_unit_is_started_once(supervisor: SystemdSupervisor, machine: Systemd) -> None:
    supervisor.start(UNIT)
    assert (systemd.UNITS / FILE).read_text() == definition(UNIT)
    assert machine.asked == [("restart", FILE)]
    pid = supervisor.pid("dns")
    assert pid is not None and supervisor.names() == {"dns"}
    supervisor.start(UNIT)
    assert machine.asked == [("restart", FILE)] and supervisor.pid("dns") == pid


def test_another_definition_replaces_it(supervisor: SystemdSupervisor, machine: Systemd, tmp_path: Path) -> None:
    supervisor.start(UNIT)
    before = supervisor.pid("dns")
    writable = tmp_path / "state"
    supervisor.start(Unit("dns", (*UNIT.argv, "--no-daemon"), user=UNIT.user, writable=(writable,)))
    assert machine.asked[1:] == [("daemon-reload",), ("restart", FILE)]
    assert supervisor.pid("dns") not in (None, before)
    assert writable.is_dir()
    assert [path.name for path in systemd.UNITS.iterdir()] == [FILE]


def test_the_next_agent_adopts_what_runs(supervisor: SystemdSupervisor, machine: Systemd) -> None:
    supervisor.start(UNIT)
    again = SystemdSupervisor(Settings())
    assert again.names() == {"dns"} and again.pid("dns") == supervisor.pid("dns")
    again.start(UNIT)
    assert machine.asked == [("restart", FILE)]


def test_a_unit_that_is_stopped_is_gone(supervisor: SystemdSupervisor, machine: Systemd) -> None:
    supervisor.start(UNIT)
    supervisor.stop("dns")
    supervisor.stop("dns")
    assert machine.asked == [("restart", FILE), ("stop", FILE)]
    assert supervisor.names() == frozenset() and supervisor.pid("dns") is None
    with pytest.raises(ApplyError, match="not one of the present document"):
        supervisor.restart("dns")


def test_what_systemd_refuses_is_told_with_the_log(supervisor: SystemdSupervisor, machine: Systemd) -> None:
    machine.refuses, machine.journal = "Job failed", "dnsmasq: bad option"
    with pytest.raises(ApplyError, match="dns cannot be started: Job failed; dnsmasq: bad option"):
        supervisor.start(UNIT)
    with pytest.raises(ApplyError, match="dns cannot be stopped: Job failed"):
        supervisor.stop("dns")
    with pytest.raises(ApplyError, match="dns cannot be restarted: Job failed"):
        supervisor.restart("dns")


def test_signals_go_to_the_process_that_runs(
    supervisor: SystemdSupervisor, machine: Systemd, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[Any] = []
    monkeypatch.setattr(signal, "pidfd_send_signal", lambda fd, number: sent.append(number))
    supervisor.start(UNIT)
    supervisor.signal("dns", signal.SIGHUP)
    assert sent == [signal.SIGHUP]
    machine.end(FILE)
    with pytest.raises(ApplyError, match="dns does not run"):
        supervisor.signal("dns", signal.SIGHUP)


def test_an_end_is_told_when_the_unit_runs_again(supervisor: SystemdSupervisor, machine: Systemd) -> None:
    supervisor.start(UNIT)
    assert list(supervisor._look()) == []
    machine.end(FILE)
    assert list(supervisor._look()) == []
    machine.begin(FILE)
    machine.journal = f"{FILE}: Main process exited, code=killed, status=9/KILL\nStarted"
    assert list(supervisor._look()) == [("dns", "dns ended (code=killed, status=9/KILL); started again")]
    assert list(supervisor._look()) == []


def test_what_the_agent_does_itself_is_no_end(supervisor: SystemdSupervisor, machine: Systemd) -> None:
    supervisor.start(UNIT)
    supervisor.restart("dns")
    assert list(supervisor._look()) == []
    machine.end(FILE)
    supervisor.stop("dns")
    assert list(supervisor._look()) == []
