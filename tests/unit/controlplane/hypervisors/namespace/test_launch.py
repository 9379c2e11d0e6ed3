from __future__ import annotations

from controlplane.hypervisors.namespace import enter
from controlplane.hypervisors.namespace.launch import DROPPED_CAPABILITIES, Launch
from controlplane.hypervisors.namespace.mounts import Mount


def test_a_launch_travels_as_one_line() -> None:
    launch = Launch(
        hostname="vm1",
        root="/data/mnt",
        mounts=(Mount("tmpfs", "/", mode=0o700), Mount("bind", "/a b", "/c\nd", read_only=True)),
        argv=("/usr/bin/busybox",),
        environment={"PATH": "/bin"},
        process_file="/data/process.json",
        log="/data/console.log",
        cgroups=("/sys/fs/cgroup/x/cgroup.procs",),
    )
    assert "\n" not in launch.encode()
    assert Launch.decode(launch.encode()) == launch


def test_a_command_in_an_instance_has_no_more_rights_and_nothing_of_the_caller_s_environment() -> None:
    command = enter.command(42, ["sh", "-c", "id"], [("TERM", "vt100")])
    # before going in, where every program may be the guest's own
    assert (command[0], command[2:5]) == ("setpriv", ["--", "nsenter", "--target=42"])
    assert command[-3:] == ["sh", "-c", "id"]
    assert "TERM=vt100" in command[command.index("-i") :]
    assert command[1].startswith("--bounding-set=")
    assert all(f"-{name}" in command[1] for name in DROPPED_CAPABILITIES)
