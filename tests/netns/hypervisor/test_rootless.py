"""The whole of it as an ordinary user, inside a user namespace."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from cs import CloudStack

from controlplane.hypervisors.namespace import rootless
from controlplane.hypervisors.namespace.disks import QEMU
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
    assert (done["volume"], done["user_of_volume"]) == ("mine", QEMU if many_users else 0)

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
    assert (json.loads(facts)["kept"], json.loads(facts)["copied"]) == ("mine", True)
    assert json.loads(facts)["power"][done["router"]] == "running"
    assert list((data / "hypervisor/instances").iterdir()) == []

    rootless.stop(data)
    assert look(data) == before
    wait_for(lambda: not processes_of(nobody, str(data)), 5, "the last process of the user to end")


def test_gatehouse_serves_as_an_ordinary_user(data: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    cli = "controlplane.cli"
    where = ["--data", str(data)]

    def gatehouse(*argv: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(as_nobody("-m", cli, *argv), capture_output=True, text=True, check=False, timeout=60)

    with (data / "serve.log").open("w") as log:
        serving = subprocess.Popen(as_nobody("-m", cli, "serve", *where, "--listen", address), stdout=log, stderr=log)
    try:
        keys = wait_for(lambda: json.loads(gatehouse("admin-keys", *where).stdout), 20, "the keys", interval=0.3)
        cloud = CloudStack(
            endpoint=f"http://{address}/client/api", key=keys["apikey"], secret=keys["secretkey"], timeout=60
        )
        zone = wait_for(cloud.listZones, 20, "the API")["zone"][0]["id"]
        offering = cloud.listNetworkOfferings(state="Enabled")["networkoffering"][0]["id"]
        network = cloud.createNetwork(name="n", displaytext="n", zoneid=zone, networkofferingid=offering)["network"]
        template = next(
            item for item in cloud.listTemplates(templatefilter="all")["template"] if item["name"] == "builtin"
        )
        made = cloud.deployVirtualMachine(
            zoneid=zone,
            templateid=template["id"],
            serviceofferingid=cloud.listServiceOfferings()["serviceoffering"][0]["id"],
            networkids=network["id"],
            name="vm1",
            fetch_result=True,
        )["virtualmachine"]
        wait_for(
            lambda: made["nic"][0]["ipaddress"] in gatehouse("exec", *where, "vm1", "--", "ip", "address").stdout,
            15,
            "the guest's lease",
            interval=0.2,
        )
        assert gatehouse("exec", *where, "vm1", "--", "sh", "-c", "exit 5").returncode == 5
    except BaseException:
        print((data / "serve.log").read_text()[-5000:])
        raise
    finally:
        serving.terminate()
        serving.wait(30)
        subprocess.run(as_nobody("-m", PROGRAM, str(data), "purge"), check=True, timeout=60)


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
