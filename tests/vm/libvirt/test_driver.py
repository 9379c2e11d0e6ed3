"""The life of virtual machines through libvirt, with the small guest."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path

import pytest
from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives.ciphers import Cipher, modes

from appliance.run import run
from controlplane.hypervisors.base import (
    ConsoleTarget,
    GuestSpec,
    HypervisorError,
    Instance,
    Nic,
)
from controlplane.hypervisors.bridges import bridge_name, port_name
from tests.vm.libvirt.site import Site
from tests.wait import wait_for

SEGMENT = "guest-1"
NIC = Nic("02:00:00:00:00:01", SEGMENT, addresses=("10.9.0.2",))
GUEST = GuestSpec("g-1", "vm1", (NIC,), "builtin", memory_mb=192)
PEER = "10.9.0.1"


@pytest.fixture(scope="module")
def running(site: Site) -> Site:
    """A site with one guest that runs and a machine beside it."""
    site.segment(SEGMENT)
    site.cheap.start_guest(GuestSpec("peer", "peer", (Nic("02:00:00:00:00:99", SEGMENT, addresses=(PEER,)),), "bare"))
    for words in (["address", "add", f"{PEER}/24", "dev", "eth0"], ["link", "set", "eth0", "up"]):
        run(site.cheap.command("peer", ["ip", *words]))
    site.hypervisor.start_guest(GUEST)
    site.guest("g-1", "true")
    return site


@pytest.fixture
def guest(running: Site) -> Site:
    """The same; whatever a test did to the guest, it runs again."""
    running.hypervisor.open()
    running.hypervisor.start_guest(GUEST)
    return running


def pings(site: Site) -> bool:
    """Whether the machine beside it answers the guest, across the cable."""
    site.guest("g-1", "ip address replace 10.9.0.2/24 dev eth0")
    return site.guest("g-1", f"ping -c 5 -W 2 {PEER}").returncode == 0


def uptime(site: Site) -> float:
    return float(site.guest("g-1", "cat /proc/uptime").stdout.split()[0])


def qemu_of(instance_id: str) -> int:
    """The process that runs an instance."""
    found = [
        int(path.name)
        for path in Path("/proc").iterdir()
        if path.name.isdigit() and f"guest={instance_id}," in command_line(path)
    ]
    assert len(found) == 1, found
    return found[0]


def command_line(process: Path) -> str:
    try:
        return (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def test_a_guest_has_its_nic_on_its_segment(guest: Site) -> None:
    wait_for(lambda: pings(guest), 60, "the machine beside it")
    # in its own name only
    assert guest.guest("g-1", f"ip address add 10.9.0.3/24 dev eth0; ping -c 1 -W 1 -I 10.9.0.3 {PEER}").returncode == 1
    assert guest.guest("g-1", "cat /sys/class/net/eth0/address").stdout == f"{NIC.mac}\n"
    assert guest.hypervisor.instances() == [Instance("g-1", "guest", "running")]
    assert port_name("g-1", NIC.mac) in guest.host("ip", "link", "show", "master", bridge_name(SEGMENT))


def test_starting_what_runs_changes_nothing(guest: Site) -> None:
    before = qemu_of("g-1")
    guest.hypervisor.start_guest(GUEST)
    assert qemu_of("g-1") == before


def test_a_nic_is_plugged_and_unplugged_while_it_runs(guest: Site) -> None:
    second = Nic("02:00:00:00:00:02", SEGMENT, rate_mbit=100)
    guest.hypervisor.attach_nic("g-1", second)
    guest.hypervisor.attach_nic("g-1", second)
    wait_for(lambda: "eth1" in guest.guest("g-1", "ls /sys/class/net").stdout, 20, "the new NIC")
    assert "tbf" in guest.host("tc", "qdisc", "show", "dev", port_name("g-1", second.mac))
    guest.hypervisor.detach_nic("g-1", second.mac)
    assert "eth1" not in guest.guest("g-1", "ls /sys/class/net").stdout
    assert port_name("g-1", second.mac) not in guest.host("ip", "-o", "link")


def test_its_devices_are_those_of_an_instance(guest: Site) -> None:
    found = guest.guest("g-1", "cat /sys/bus/pci/devices/*/device").stdout
    # Intel's 6300ESB watchdog timer
    assert "0x25ab" in found
    assert guest.guest("g-1", "grep -c MemTotal /proc/meminfo; nproc").stdout.split() == ["1", "1"]
    assert "localhost login:" in guest.hypervisor.console_log("g-1")


def test_the_screen_wants_its_password(guest: Site) -> None:
    target = guest.hypervisor.console("g-1")
    assert target.password is not None and target.password not in repr(target)
    assert target.password not in command_line(Path(f"/proc/{qemu_of('g-1')}"))
    assert authenticate(guest, target, target.password)
    assert not authenticate(guest, target, "x" * 8)


def authenticate(site: Site, target: ConsoleTarget, password: str) -> bool:
    """Log in to a VNC server as RFC 6143, 7.1 and 7.2.2, has it."""
    with site.hypervisor.connect(target.host, target.port, 10) as connection:
        version = receive(connection, 12)
        assert version == b"RFB 003.008\n"
        connection.sendall(version)
        kinds = receive(connection, receive(connection, 1)[0])
        assert kinds == b"\x02"
        connection.sendall(kinds)
        # each byte of the key has its bits in reverse
        key = bytes(int(f"{byte:08b}"[::-1], 2) for byte in password.encode()[:8].ljust(8, b"\0"))
        cipher = Cipher(TripleDES(key * 3), modes.ECB()).encryptor()
        connection.sendall(cipher.update(receive(connection, 16)))
        return receive(connection, 4) == b"\0\0\0\0"


def receive(connection: socket.socket, size: int) -> bytes:
    got = b""
    while len(got) < size:
        part = connection.recv(size - len(got))
        assert part, got
        got += part
    return got


def test_a_new_control_plane_finds_what_runs(guest: Site) -> None:
    before = uptime(guest)
    guest.hypervisor.close()
    guest.hypervisor = guest.driver()
    guest.hypervisor.open()
    assert guest.hypervisor.instances() == [Instance("g-1", "guest", "running")]
    assert uptime(guest) > before
    wait_for(lambda: pings(guest), 60, "the machine beside it")


def test_a_daemon_that_starts_again_is_found(guest: Site) -> None:
    before = qemu_of("g-1")
    guest.daemon.stop()
    with pytest.raises(HypervisorError, match="does not answer"):
        guest.hypervisor.power("g-1")
    guest.daemon.start()
    assert guest.hypervisor.power("g-1") == "running"
    assert qemu_of("g-1") == before


def test_a_machine_that_dies_is_seen_and_can_be_started(guest: Site) -> None:
    os.kill(qemu_of("g-1"), signal.SIGKILL)
    wait_for(lambda: guest.hypervisor.power("g-1") == "stopped", 10, "the death to be seen")
    guest.hypervisor.start_guest(GUEST)
    assert uptime(guest) < 120


def test_a_stop_presses_the_power_button(guest: Site) -> None:
    guest.guest("g-1", "true")
    guest.hypervisor.stop("g-1")
    assert guest.hypervisor.power("g-1") == "stopped"
    assert "reboot: Power down" in guest.hypervisor.console_log("g-1")


def test_a_template_without_an_image_says_where_it_goes(running: Site) -> None:
    with pytest.raises(HypervisorError, match=r"no image; copy a qcow2 image, and put it at .*/templates/none\.qcow2"):
        running.hypervisor.start_guest(GuestSpec("g-2", "vm2", (), "none"))
    assert running.hypervisor.power("g-2") == "absent"


def test_nothing_is_left_of_what_is_destroyed(running: Site) -> None:
    running.hypervisor.destroy("g-1")
    running.hypervisor.destroy("g-1")
    running.cheap.destroy("peer")
    for hypervisor in (running.hypervisor, running.cheap):
        hypervisor.remove_segment(SEGMENT)
    links = running.host("ip", "-o", "link")
    assert bridge_name(SEGMENT) not in links and port_name("g-1", NIC.mac) not in links
    assert running.hypervisor.instances() == []
    assert list((running.directory / "storage/instances").iterdir()) == []
    assert not [path for path in Path("/proc").iterdir() if "guest=g-1," in command_line(path)]
