"""The whole of it as an ordinary user, inside a user namespace."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from controlplane.hypervisors.namespace import rootless
from tests.netns.hypervisor.machine import look
from tests.netns.lab import REPOSITORY
from tests.wait import wait_for

PROGRAM = "tests.netns.hypervisor.rootless_program"


@pytest.fixture
def data() -> Iterator[Path]:
    """A data directory of the user nobody."""
    path = Path(tempfile.mkdtemp(prefix="gatehouse-rootless-"))
    nobody = pwd.getpwnam("nobody")
    os.chown(path, nobody.pw_uid, nobody.pw_gid)
    yield path
    rootless.stop(path)
    shutil.rmtree(path)


def as_nobody(*argv: str, subordinate: Path | None = None) -> list[str]:
    """``argv`` as the user nobody, with an interpreter that nobody may run.

    ``subordinate``: a file that stands in for subuid(5) and subgid(5), where nobody has no entry.
    """
    packages = ":".join([str(REPOSITORY), sysconfig.get_path("purelib")])
    variables = [f"PYTHONPATH={packages}", "PYTHONDONTWRITEBYTECODE=1", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"]
    seen = []
    if subordinate is not None:
        script = 'mount --bind "$0" /etc/subuid && mount --bind "$0" /etc/subgid && exec "$@"'
        seen = ["unshare", "--mount", "sh", "-c", script, str(subordinate)]
    user = [*seen, "setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", "--", "env", "-i", *variables]
    for python in (sys.executable, "/usr/bin/python3"):
        probe = subprocess.run([*user, python, "-c", f"import {PROGRAM}"], capture_output=True, text=True, check=False)
        if probe.returncode == 0:
            return [*user, python, *argv]
    pytest.skip(f"the user nobody can run no Python that has the packages: {probe.stderr[-300:]}")


@pytest.mark.parametrize("many_users", [False, True])
def test_an_ordinary_user_runs_a_network(data: Path, tmp_path: Path, many_users: bool) -> None:
    subordinate = tmp_path / "subid" if many_users else None
    if subordinate:
        subordinate.write_text("nobody:300000:65536\n")
    before = look(data)
    command = as_nobody("-m", PROGRAM, str(data), "serve", subordinate=subordinate)
    serving = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    with serving:
        try:
            assert serving.stdout
            where = json.loads(serving.stdout.readline())
            done = json.loads(serving.stdout.readline())
        finally:
            serving.send_signal(signal.SIGKILL)
    nobody = str(pwd.getpwnam("nobody").pw_uid)
    assert where["users"] == ["0", nobody, "1", *(["1", "300000", "65535"] if many_users else [])]
    # the API of the control plane is reached on the machine's network
    assert where["network"] == str(Path("/proc/self/ns/net").readlink())
    assert done["lease"] == "10.1.1.5"
    assert done["page"] == [200, "hello"]
    assert done["client"] == ["203.0.113.10"]
    assert done["own_name"] == "10.1.1.5"
    assert any("dnsmasq" in daemon for daemon in done["daemons"])
    assert (done["user_of_dnsmasq"] == "dnsmasq") == many_users

    adopted = subprocess.run(
        as_nobody("-m", PROGRAM, str(data), "adopt", done["guest"]),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    page, facts = adopted.stdout.splitlines()
    assert page == "hello"
    assert json.loads(facts)["status"] == 0
    assert json.loads(facts)["power"][done["router"]] == "running"
    assert list((data / "hypervisor/instances").iterdir()) == []

    rootless.stop(data)
    assert look(data) == before
    wait_for(lambda: not processes_of(nobody, str(data)), 5, "the last process of the user to end")


def processes_of(uid: str, text: str) -> list[str]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                status, command = (entry / "status").read_text(), (entry / "cmdline").read_text()
            except OSError:
                continue
            if f"Uid:\t{uid}" in status and text in command:
                found.append(command)
    return found
