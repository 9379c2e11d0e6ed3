"""The control plane dies, the machine reboots: networks go on working, what runs is adopted, leftovers go."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import IO

import pytest

from appliance.run import run
from controlplane.hypervisors import syscalls
from controlplane.hypervisors.base import GuestSpec, HypervisorError, Nic, Segment
from controlplane.hypervisors.bridges import port_name
from controlplane.hypervisors.namespace.driver import NamespaceHypervisor
from controlplane.hypervisors.namespace.processes import PROCESS
from tests.netns.hypervisor.machine import namespaces_of
from tests.wait import wait_for


@contextmanager
def owner(directory: Path, guests: int) -> Iterator[IO[str]]:
    """A process that owns the hypervisor; it is killed at the end. Yields what it prints."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.netns.hypervisor.owner", str(directory), str(guests)],
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout
        try:
            yield process.stdout
        finally:
            process.send_signal(signal.SIGKILL)


def pings(hypervisor: NamespaceHypervisor, instance: str, address: str) -> bool:
    command = hypervisor.command(instance, ["busybox", "ping", "-c", "1", "-W", "1", address])
    return run(command, check=False).returncode == 0


def ports(directory: Path) -> set[str]:
    listed = run(["nsenter", f"--net={directory / 'fabric/net'}", "ip", "-json", "link", "show"]).stdout
    return {link["ifname"] for link in json.loads(listed) if link["ifname"].startswith("gh")}


def inits(directory: Path) -> set[str]:
    """Instances that have an init."""
    links = (Path(f"/proc/{pid}/fd/1").readlink() for pid in namespaces_of(directory))
    return {link.parent.name for link in links}


def guest(number: int) -> GuestSpec:
    nic = Nic(f"02:00:00:00:00:{number:02x}", "guest-1", addresses=(f"10.1.1.{number}",))
    return GuestSpec(f"g-{number}", f"g-{number}", (nic,), "bare")


def test_a_killed_control_plane_is_not_missed_and_its_successor_adopts(directory: Path) -> None:
    with owner(directory, 2) as lines:
        assert [lines.readline().strip() for _ in range(3)] == ["open", "g-1", "g-2"]
        with pytest.raises(HypervisorError, match="in use by another control plane"):
            NamespaceHypervisor(directory).open()

    hypervisor = NamespaceHypervisor(directory)
    # nobody owns it now; looking needs no owner
    assert pings(hypervisor, "g-1", "10.1.1.2")
    before = run(hypervisor.command("g-1", ["readlink", "/proc/1/ns/net"])).stdout

    hypervisor.open()
    assert {item.id: item.power for item in hypervisor.instances()} == {"g-1": "running", "g-2": "running"}
    assert run(hypervisor.command("g-1", ["readlink", "/proc/1/ns/net"])).stdout == before
    assert pings(hypervisor, "g-1", "10.1.1.2")
    hypervisor.attach_nic("g-1", Nic("02:00:00:00:0a:01", "guest-1"))
    hypervisor.start_guest(guest(3))
    hypervisor.stop("g-2")
    assert not pings(hypervisor, "g-1", "10.1.1.2")
    hypervisor.close()


def test_killed_at_any_moment_of_starting_leaves_nothing_half_made(directory: Path) -> None:
    seed = random.randrange(1 << 32)
    moments = random.Random(seed)
    for attempt in range(6):
        with owner(directory, 20) as lines:
            assert lines.readline().strip() == "open"
            time.sleep(moments.uniform(0, 0.6))
        hypervisor = NamespaceHypervisor(directory)
        with closing(hypervisor):
            hypervisor.open()
            seen = {item.id: item.power for item in hypervisor.instances()}
            running = {name for name, power in seen.items() if power == "running"}
            what = f"seed {seed}, attempt {attempt}: {seen}"
            expected = {port_name(f"g-{n}", f"02:00:00:00:00:{n:02x}") for n in range(1, 21) if f"g-{n}" in running}
            assert ports(directory) == expected, what
            assert inits(directory) == running, what
            assert [path for path in (directory / "instances").iterdir() if path.name.startswith(".")] == [], what
            for name in seen:
                hypervisor.start_guest(guest(int(name[2:])))
                assert run(hypervisor.command(name, ["cat", "/sys/class/net/eth0/address"])).stdout, what
                hypervisor.destroy(name)


def test_a_nic_whose_attaching_was_cut_off_is_there_after_the_next_start(
    directory: Path, hypervisor: NamespaceHypervisor
) -> None:
    hypervisor.ensure_segment(Segment("guest-1"))
    hypervisor.start_guest(guest(1))
    hypervisor.close()
    path = directory / "instances/g-1/record.json"
    record = json.loads(path.read_text())
    record["nics"] = [{"mac": "02:00:00:00:0b:0b", "segment": "guest-1"}]
    path.write_text(json.dumps(record))

    hypervisor.open()
    shown = run(hypervisor.command("g-1", ["sh", "-c", "cat /sys/class/net/eth*/address"])).stdout
    assert shown.split() == ["02:00:00:00:0b:0b"]
    assert ports(directory) == {port_name("g-1", "02:00:00:00:0b:0b")}


def test_after_a_reboot_instances_are_stopped_and_segments_are_back(directory: Path) -> None:
    with owner(directory, 2) as lines:
        assert [lines.readline().strip() for _ in range(3)] == ["open", "g-1", "g-2"]
    # what a reboot does: processes and mounts are gone, process numbers mean others, files remain
    for name in ("g-1", "g-2"):
        path = directory / "instances" / name / PROCESS
        process = json.loads(path.read_text())
        os.kill(process["pid"], signal.SIGKILL)
        path.write_text(json.dumps({**process, "pid": os.getpid(), "boot": "an earlier one"}))
    syscalls.unmount(directory / "fabric/net")

    hypervisor = NamespaceHypervisor(directory)
    hypervisor.open()
    assert {item.id: item.power for item in hypervisor.instances()} == {"g-1": "stopped", "g-2": "stopped"}
    for number in (1, 2):
        hypervisor.start_guest(guest(number))
        for command in (["address", "add", f"10.1.1.{number}/24", "dev", "eth0"], ["link", "set", "eth0", "up"]):
            run(hypervisor.command(f"g-{number}", ["ip", *command]))
    wait_for(lambda: pings(hypervisor, "g-1", "10.1.1.2"), 5, "the segment to work")
    # the process that has the number now is this one, and it was left alone
    hypervisor.close()


def test_an_instance_that_dies_is_seen_as_stopped_and_starts_again(hypervisor: NamespaceHypervisor) -> None:
    hypervisor.ensure_segment(Segment("guest-1"))
    hypervisor.start_guest(guest(1))
    run(hypervisor.command("g-1", ["busybox", "poweroff", "-f"]), check=False)
    wait_for(lambda: hypervisor.power("g-1") == "stopped", 5, "the guest to power itself off")
    hypervisor.start_guest(guest(1))
    assert hypervisor.power("g-1") == "running"
    assert run(hypervisor.command("g-1", ["ls", "/sys/class/net"])).stdout.split() == ["eth0", "lo"]


def test_a_damaged_record_is_named_and_can_be_destroyed(directory: Path, hypervisor: NamespaceHypervisor) -> None:
    hypervisor.start_guest(GuestSpec("g-1", "g-1", (), "bare"))
    (directory / "instances/g-1/record.json").write_text("{")
    with pytest.raises(HypervisorError, match=r"record\.json is damaged .*destroy g-1"):
        hypervisor.attach_nic("g-1", Nic("02:00:00:00:00:01", "control"))
    hypervisor.close()
    hypervisor.open()
    assert hypervisor.power("g-1") == "running"
    hypervisor.destroy("g-1")
    assert hypervisor.power("g-1") == "absent"
    assert namespaces_of(directory) == []
