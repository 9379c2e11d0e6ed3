"""Life of instances: starting, stopping, what they see and may do, and that destroy leaves nothing."""

from __future__ import annotations

import os
import pty
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from appliance.run import run
from controlplane.hypervisors.base import ApplianceSpec, GuestSpec, HypervisorError, Nic, Segment
from controlplane.hypervisors.namespace.cgroups import Cgroups
from controlplane.hypervisors.namespace.driver import CONSOLE_LOG, CONSOLE_LOG_LIMIT, NamespaceHypervisor
from tests.netns.hypervisor.machine import mounts_below, namespaces_of
from tests.wait import wait_for


def guest(number: int, *segments: str) -> GuestSpec:
    addresses = (f"10.9.0.{number}",)
    nics = tuple(
        Nic(f"02:00:00:00:{number:02x}:{index:02x}", name, addresses=addresses) for index, name in enumerate(segments)
    )
    return GuestSpec(f"g-{number}", f"vm{number}", nics, "bare", memory_mb=128)


def appliance(number: int) -> ApplianceSpec:
    nics = (Nic(f"02:00:00:00:{number:02x}:ff", "control"),)
    return ApplianceSpec(f"r-{number}", f"r-{number}", nics, {"key.pem": b"secret of this appliance"})


def output(hypervisor: NamespaceHypervisor, instance: str, *argv: str, check: bool = True) -> str:
    done = run(hypervisor.command(instance, argv), check=check)
    return done.stdout + done.stderr


def test_exec_gives_streams_and_exit_status(hypervisor: NamespaceHypervisor, capfd: pytest.CaptureFixture[str]) -> None:
    hypervisor.start_guest(guest(1))
    assert hypervisor.exec("g-1", ["sh", "-c", "hostname; echo oops >&2; exit 7"]) == 7
    assert capfd.readouterr() == ("vm1\n", "oops\n")
    assert hypervisor.exec("g-1", ["true"]) == 0
    assert hypervisor.exec("g-1", ["sh", "-c", "kill -9 $$"]) == 128 + 9
    with pytest.raises(HypervisorError, match="no instance g-2"):
        hypervisor.exec("g-2", ["true"])


def test_exec_has_the_caller_s_terminal(hypervisor: NamespaceHypervisor) -> None:
    hypervisor.start_guest(guest(1))
    ours, theirs = pty.openpty()
    try:
        command = hypervisor.command("g-1", ["sh", "-c", "test -t 0 && test -t 1 && stty size"])
        subprocess.run(command, stdin=theirs, stdout=theirs, stderr=theirs, check=True, timeout=10)
        assert os.read(ours, 100)
    finally:
        os.close(ours)
        os.close(theirs)
    assert run(hypervisor.command("g-1", ["test", "-t", "0"]), check=False).returncode == 1


def test_an_appliance_sees_programs_and_its_own_files_only(directory: Path, hypervisor: NamespaceHypervisor) -> None:
    (directory / "authority.pem").write_text("key of everything")
    hypervisor.start_appliance(appliance(1))
    hypervisor.start_appliance(appliance(2))

    assert "secret of this" in output(hypervisor, "r-1", "cat", "/etc/gatehouse-identity/key.pem")
    assert "600 0" in output(hypervisor, "r-1", "stat", "-c", "%a %u", "/etc/gatehouse-identity/key.pem")
    for hidden in (directory / "authority.pem", directory, Path("/etc/shadow"), Path("/home"), Path("/boot")):
        assert "No such file" in output(hypervisor, "r-1", "ls", str(hidden), check=False)
    everything = output(hypervisor, "r-1", "find", "/", "-name", "*.pem", "-path", "*identity*", check=False)
    assert everything.count("key.pem") == 1
    # the control plane's own code is none of its business, and neither are the machine's processes
    assert "controlplane" not in output(
        hypervisor, "r-1", "find", "/", "-name", "controlplane", "-not", "-path", "/proc/*"
    )
    assert len(output(hypervisor, "r-1", "sh", "-c", "ls -d /proc/[0-9]*").split()) < 10


def test_an_appliance_cannot_change_the_machine(hypervisor: NamespaceHypervisor) -> None:
    forwarding = Path("/proc/sys/net/ipv4/ip_forward")
    before = forwarding.read_text()
    hypervisor.start_appliance(appliance(1))

    def refused(command: str) -> bool:
        return run(hypervisor.command("r-1", ["sh", "-c", command]), check=False).returncode != 0

    assert refused("touch /usr/x")
    assert refused("touch /x")
    assert refused("echo 1 >/proc/sys/kernel/panic")
    assert refused("echo 1 >/sys/kernel/mm/ksm/run")
    assert refused("mknod /tmp/disk b 254 0")
    assert not refused("echo 1 >/proc/sys/net/ipv4/ip_forward")
    assert not refused("touch /run/x /tmp/x /var/lib/gatehouse/x /var/log/gatehouse/x /etc/gatehouse/x")
    assert forwarding.read_text() == before


def test_a_guest_keeps_its_disk_and_shares_it_with_nobody(directory: Path, hypervisor: NamespaceHypervisor) -> None:
    hypervisor.start_guest(guest(1))
    hypervisor.start_guest(guest(2))
    write = (
        "echo mine >/etc/own; echo mine >/usr/bin/own; echo mine >/root/own; echo gone >/run/own; echo >>/etc/services"
    )
    output(hypervisor, "g-1", "sh", "-c", write)
    hypervisor.stop("g-1")
    assert hypervisor.power("g-1") == "stopped"
    hypervisor.start_guest(guest(1))

    assert output(hypervisor, "g-1", "cat", "/etc/own", "/usr/bin/own", "/root/own") == "mine\n" * 3
    assert "No such file" in output(hypervisor, "g-1", "cat", "/run/own", check=False)
    for path in ("/etc/own", "/usr/bin/own", "/root/own"):
        assert "No such file" in output(hypervisor, "g-2", "cat", path, check=False)
        assert not Path(path).exists()
    assert not (directory / "guest-base/etc/own").exists()
    machine_ids = {output(hypervisor, name, "cat", "/etc/machine-id") for name in ("g-1", "g-2")}
    assert len(machine_ids) == 2
    assert Path("/etc/machine-id").read_text() not in machine_ids if Path("/etc/machine-id").exists() else True


def test_a_guest_has_no_secret_of_the_machine(hypervisor: NamespaceHypervisor) -> None:
    hypervisor.start_guest(guest(1))
    assert all(line.split(":")[1] == "*" for line in output(hypervisor, "g-1", "cat", "/etc/shadow").splitlines())
    found = output(hypervisor, "g-1", "sh", "-c", "ls -A /root /home; ls /etc/ssh | grep host_; true")
    assert found.split() == ["/home:", "/root:"]


def test_a_guest_cannot_change_the_machine_s_devices_and_interrupts(hypervisor: NamespaceHypervisor) -> None:
    hypervisor.start_guest(guest(1))
    mode = Path("/dev/full").stat().st_mode
    try:
        assert "Read-only file system" in output(hypervisor, "g-1", "chmod", "600", "/dev/full", check=False)
    finally:
        Path("/dev/full").chmod(mode)
    assert output(hypervisor, "g-1", "sh", "-c", "echo >/dev/null && head -c 3 /dev/zero | wc -c") == "3\n"
    affinity = "/proc/irq/default_smp_affinity"
    if Path(affinity).exists():
        same = output(hypervisor, "g-1", "sh", "-c", f"cat {affinity} >{affinity}", check=False)
        assert "Read-only file system" in same


#: opens the file that is the guest's standard output by its file handle (open_by_handle_at(2))
BY_HANDLE = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
handle, mount = ctypes.create_string_buffer(bytes([128, 0, 0, 0]) + bytes(132)), ctypes.c_int()
assert libc.name_to_handle_at(-100, b"/proc/1/fd/1", handle, ctypes.byref(mount), 0x400) == 0
opened = libc.open_by_handle_at(os.open("/proc/1/fd/1", os.O_RDONLY), handle, os.O_RDONLY)
print("opened" if opened >= 0 else os.strerror(ctypes.get_errno()))
"""


def test_a_guest_opens_no_files_of_the_machine_by_their_handles(hypervisor: NamespaceHypervisor) -> None:
    hypervisor.start_guest(guest(1))
    assert output(hypervisor, "g-1", "/usr/bin/python3", "-c", BY_HANDLE) == "Operation not permitted\n"


def test_every_call_may_be_repeated(hypervisor: NamespaceHypervisor) -> None:
    hypervisor.ensure_segment(Segment("guest-1"))
    hypervisor.ensure_segment(Segment("guest-1"))
    spec = guest(1, "guest-1")
    hypervisor.start_guest(spec)
    first = output(hypervisor, "g-1", "readlink", "/proc/self/ns/net")
    hypervisor.start_guest(spec)
    assert output(hypervisor, "g-1", "readlink", "/proc/self/ns/net") == first
    hypervisor.attach_nic("g-1", spec.nics[0])
    hypervisor.detach_nic("g-1", spec.nics[0].mac)
    hypervisor.detach_nic("g-1", spec.nics[0].mac)
    hypervisor.stop("g-1")
    hypervisor.stop("g-1", force=True)
    hypervisor.destroy("g-1")
    hypervisor.destroy("g-1")
    hypervisor.stop("g-1")
    hypervisor.remove_segment("guest-1")
    hypervisor.remove_segment("guest-1")
    assert hypervisor.power("g-1") == "absent"
    assert hypervisor.instances() == []


def test_nics_come_and_go_while_a_guest_runs(hypervisor: NamespaceHypervisor) -> None:
    for name in ("guest-1", "guest-2"):
        hypervisor.ensure_segment(Segment(name))
    hypervisor.start_guest(guest(1, "guest-1"))
    hypervisor.start_guest(guest(2, "guest-2"))
    with pytest.raises(HypervisorError, match="in use by g-1"):
        hypervisor.remove_segment("guest-1")

    hypervisor.attach_nic("g-1", Nic("02:00:00:00:0a:0a", "guest-2", addresses=("10.9.0.1",)))
    output(hypervisor, "g-1", "ip", "address", "add", "10.9.0.1/24", "dev", "eth1")
    output(hypervisor, "g-1", "ip", "link", "set", "eth1", "up")
    assert "02:00:00:00:0a:0a" in output(hypervisor, "g-1", "cat", "/sys/class/net/eth1/address")
    output(hypervisor, "g-2", "ip", "address", "add", "10.9.0.2/24", "dev", "eth0")
    output(hypervisor, "g-2", "ip", "link", "set", "eth0", "up")
    assert "1 packets received" in output(hypervisor, "g-2", "busybox", "ping", "-c1", "-W2", "10.9.0.1", check=False)

    hypervisor.detach_nic("g-1", "02:00:00:00:0a:0a")
    assert output(hypervisor, "g-1", "ls", "/sys/class/net").split() == ["eth0", "lo"]
    # it stays so over a restart
    hypervisor.attach_nic("g-1", Nic("02:00:00:00:0a:0b", "guest-2"))
    hypervisor.stop("g-1", force=True)


def test_a_missing_segment_or_template_is_named(hypervisor: NamespaceHypervisor) -> None:
    with pytest.raises(HypervisorError, match="no segment guest-9"):
        hypervisor.start_guest(guest(1, "guest-9"))
    assert hypervisor.power("g-1") == "stopped"
    with pytest.raises(HypervisorError, match="no guest template windows; known are bare, builtin"):
        hypervisor.start_guest(GuestSpec("g-2", "vm2", (), "windows"))


def test_programs_may_end_by_themselves_before_they_are_made_to(hypervisor: NamespaceHypervisor) -> None:
    hypervisor.start_guest(guest(1))
    script = "trap 'echo asked >/root/end; exit 0' TERM; touch /run/ready; while :; do sleep 0.05; done"
    polite = subprocess.Popen(hypervisor.command("g-1", ["sh", "-c", script]))
    stubborn = subprocess.Popen(hypervisor.command("g-1", ["sh", "-c", "trap '' TERM; while :; do sleep 1; done"]))
    wait_for(lambda: "ready" in output(hypervisor, "g-1", "ls", "/run"), 5, "the program to run")
    begin = time.monotonic()
    hypervisor.stop("g-1")
    assert time.monotonic() - begin < 5
    assert polite.wait(5) == 0
    assert stubborn.wait(5) != 0
    hypervisor.start_guest(guest(1))
    assert output(hypervisor, "g-1", "cat", "/root/end") == "asked\n"


def test_memory_is_limited(directory: Path, hypervisor: NamespaceHypervisor) -> None:
    group = Cgroups(directory).directory
    if group is None:
        pytest.skip("this process may make no control groups with memory limits")
    hypervisor.start_guest(guest(1))
    limits = [(group / "g-1" / name) for name in ("memory.max", "memory.limit_in_bytes")]
    assert [int(path.read_text()) for path in limits if path.exists()] == [128 << 20]
    assert len((group / "g-1/cgroup.procs").read_text().split()) == 1
    hypervisor.destroy("g-1")
    assert not (group / "g-1").exists()


def test_the_console_log_does_not_grow_without_end(directory: Path, hypervisor: NamespaceHypervisor) -> None:
    hypervisor.start_guest(guest(1))
    output(hypervisor, "g-1", "sh", "-c", "echo from the guest >/proc/1/fd/1")
    assert hypervisor.console_log("g-1") == "from the guest\n"
    with (directory / "instances/g-1" / CONSOLE_LOG).open("ab") as file:
        file.truncate(CONSOLE_LOG_LIMIT + 1)
    hypervisor.instances()
    assert (directory / "instances/g-1" / CONSOLE_LOG).stat().st_size == 0


def test_the_end_of_the_console_log_is_shown_however_long_it_is(hypervisor: NamespaceHypervisor) -> None:
    hypervisor.start_guest(guest(1))
    output(hypervisor, "g-1", "sh", "-c", "truncate -s 64G /proc/1/fd/1; echo the end >>/proc/1/fd/1")
    shown = hypervisor.console_log("g-1")
    assert shown.endswith("the end\n")
    assert len(shown) == CONSOLE_LOG_LIMIT


def test_a_guest_that_nested_its_directories_deeply_is_destroyed(
    directory: Path, hypervisor: NamespaceHypervisor
) -> None:
    hypervisor.start_guest(guest(1))
    nest = "import os\nfor _ in range(3000): os.mkdir('directory'); os.chdir('directory')"
    run(hypervisor.command("g-1", ["/usr/bin/python3", "-c", nest]))
    hypervisor.destroy("g-1")
    assert list((directory / "instances").iterdir()) == []


def test_what_a_guest_put_in_place_of_a_program_gets_no_further_rights(hypervisor: NamespaceHypervisor) -> None:
    hypervisor.start_guest(guest(1))
    bounding = ["grep", "CapBnd", "/proc/self/status"]
    expected = output(hypervisor, "g-1", *bounding)
    program = "#!/bin/sh\nexec grep CapBnd /proc/self/status\n"
    run(hypervisor.command("g-1", ["sh", "-c", "cat >/root/env && chmod +x /root/env"]), stdin=program)
    run(hypervisor.command("g-1", ["mv", "/root/env", "/usr/bin/env"]))
    assert output(hypervisor, "g-1", "anything") == expected


def test_twenty_at_once(directory: Path, hypervisor: NamespaceHypervisor) -> None:
    hypervisor.ensure_segment(Segment("guest-1"))
    begin = time.monotonic()
    with ThreadPoolExecutor(20) as pool:
        list(pool.map(lambda number: hypervisor.start_guest(guest(number, "guest-1")), range(1, 21)))
    elapsed = time.monotonic() - begin
    assert {item.power for item in hypervisor.instances()} == {"running"}
    assert len(hypervisor.instances()) == 20
    names = [output(hypervisor, f"g-{number}", "hostname").strip() for number in range(1, 21)]
    assert names == [f"vm{number}" for number in range(1, 21)]
    assert elapsed < 15

    with ThreadPoolExecutor(20) as pool:
        list(pool.map(lambda number: hypervisor.destroy(f"g-{number}"), range(1, 21)))
    assert hypervisor.instances() == []


def test_destroy_leaves_nothing(directory: Path, hypervisor: NamespaceHypervisor) -> None:
    hypervisor.ensure_segment(Segment("guest-1"))
    hypervisor.start_guest(guest(1, "guest-1", "control"))
    hypervisor.start_appliance(appliance(1))
    inside = subprocess.Popen(hypervisor.command("g-1", ["sleep", "1000"]))
    wait_for(lambda: namespaces_of(directory), 5, "the instances to run")
    hypervisor.destroy("g-1")
    hypervisor.destroy("r-1")

    assert inside.wait(5) != 0
    assert namespaces_of(directory) == []
    assert list((directory / "instances").iterdir()) == []
    assert mounts_below(directory) == (str(directory / "fabric/net"),)
    links = run(["nsenter", f"--net={directory / 'fabric/net'}", "ip", "-brief", "link"]).stdout
    assert "gh" not in {line[:2] for line in links.splitlines()}
    hypervisor.remove_segment("guest-1")
    links = run(["nsenter", f"--net={directory / 'fabric/net'}", "ip", "-brief", "link"]).stdout
    assert len([line for line in links.splitlines() if line.startswith("br")]) == 1
