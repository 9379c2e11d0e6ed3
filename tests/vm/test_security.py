"""What is in the image, and what is not, seen from inside a running router."""

from __future__ import annotations

import json

import pytest

from tests.netns.lab import Router

#: systemd-analyze(1): below this a unit's exposure is "OK"
OK_BELOW = 5.0


def test_every_unit_of_ours_is_in_the_ok_range(router: Router) -> None:
    shown = json.loads(router.run(["systemd-analyze", "security", "--json=short", "--no-pager"], timeout=120).stdout)
    ours = {unit["unit"]: float(unit["exposure"]) for unit in shown if unit["unit"].startswith("gatehouse-")}
    assert {"gatehouse-agent.service", "gatehouse-dnsmasq.service", "gatehouse-metadata.service"} <= ours.keys()
    assert {name: value for name, value in ours.items() if value >= OK_BELOW} == {}


def test_nobody_can_log_in_with_a_password_or_on_a_console(router: Router) -> None:
    hashes = {line.split(":")[1] for line in router.read("/etc/shadow").splitlines()}
    assert hashes == {"*"}
    active = router.run(["systemctl", "list-units", "--plain", "--no-legend", "--type=service"]).stdout
    assert "getty" not in active
    assert "Unit" in router.run(["systemctl", "start", "getty@tty1.service"], check=False).stderr


def test_programs_cannot_be_changed(router: Router) -> None:
    done = router.run(["touch", "/usr/bin/planted"], check=False)
    assert done.returncode != 0
    assert "Read-only" in done.stderr
    root = router.run(["findmnt", "--noheadings", "--output", "FSTYPE,OPTIONS", "/"]).stdout
    assert root.startswith("squashfs ro")


@pytest.mark.parametrize("name", ["gcc", "cc", "apt", "apt-get", "dpkg", "perl", "pip", "wget", "curl"])
def test_no_tools_that_an_intruder_would_like(router: Router, name: str) -> None:
    assert not router.ok(["/bin/sh", "-c", f"command -v {name}"])


def test_no_unit_failed(router: Router) -> None:
    assert router.run(["systemctl", "--failed", "--plain", "--no-legend"]).stdout == ""


def test_no_secret_is_on_a_command_line_or_readable_for_daemons(router: Router) -> None:
    modes = router.run(["stat", "-c", "%a %U", "/run/gatehouse-identity", "/run/gatehouse-identity/key.pem"]).stdout
    assert modes.split() == ["700", "root", "600", "root"]
    assert "PRIVATE KEY" not in "".join(router.processes().values())


def test_an_idle_router_uses_little_memory(router: Router) -> None:
    lines = router.read("/proc/meminfo").splitlines()
    kib = {line.split(":")[0]: int(line.split()[1]) for line in lines}
    assert (kib["MemTotal"] - kib["MemAvailable"]) / 1024 <= 160
