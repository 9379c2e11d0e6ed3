"""Two libvirt daemons as two hosts, the second reached over SSH: one control plane, one storage, shared segments."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from controlplane.hypervisors.base import ApplianceSpec, GuestSpec, HypervisorError, Instance, Nic, Segment, Wire
from controlplane.hypervisors.bridges import CONTROL, bridge_name, port_name
from controlplane.hypervisors.libvirt.remote.keys import Keys
from tests.vm.libvirt.second import Second
from tests.vm.libvirt.site import Site, inside
from tests.vm.libvirt.test_driver import command_line, qemu_of
from tests.wait import wait_for

SEGMENT = Segment("guest-1", wire=Wire("wan", "vxlan", 77))
SPECS = [
    GuestSpec(name, name, (Nic(f"02:00:00:00:00:0{number}", SEGMENT.name, addresses=(f"10.9.0.{number}",)),), "builtin")
    for number, name in enumerate(("left", "right"), 1)
]
SECRET = "of an identity"
ROUTER = ApplianceSpec(
    str(uuid.uuid4()), "r-1-VM", (Nic("0e:00:00:00:00:01", CONTROL),), {"key.pem": SECRET.encode()}, memory_mb=192
)


@pytest.fixture(scope="module")
def second(site: Site) -> Iterator[Second]:
    made = Second(site.directory, site.pin)
    made.open()
    try:
        yield made
    finally:
        made.close()


@pytest.fixture(scope="module")
def both(site: Site, second: Second) -> Site:
    """A control plane that uses both hosts, with a guest on each."""
    keys = Keys(site.directory / "libvirt/ssh")
    with pytest.raises(HypervisorError, match=r"host key is not known.* add it to .*/ssh/known_hosts"):
        site.hypervisor.add_host(second.url)
    keys.known_hosts.write_text(second.ssh.known())
    with pytest.raises(HypervisorError, match=r"authorized_keys of root there: ssh-ed25519 "):
        site.hypervisor.add_host(second.url)
    second.ssh.admit(keys.public)
    facts = site.hypervisor.add_host(second.url)
    assert facts.url == second.url and facts.up
    for segment in (SEGMENT, Segment(CONTROL, wire=Wire("wan", "vxlan", 4))):
        site.hypervisor.ensure_segment(segment)
    for spec in (SPECS[0], replace(SPECS[1], host=second.url)):
        site.hypervisor.start_guest(spec)
    site.hypervisor.start_appliance(replace(ROUTER, host=second.url))
    return site


def reached(site: Site) -> bool:
    site.guest("left", "ip address replace 10.9.0.1/24 dev eth0")
    site.guest("right", "ip address replace 10.9.0.2/24 dev eth0")
    return site.guest("left", "ping -c 5 -W 2 10.9.0.2").returncode == 0


def test_guests_of_two_hosts_are_on_one_network(both: Site, second: Second) -> None:
    wait_for(lambda: reached(both), 60, "the guest of the other host")
    assert len({both.hypervisor.console(spec.id).host for spec in SPECS}) == 2
    with pytest.raises(HypervisorError, match=f"(right|{ROUTER.id}) is on"):
        both.hypervisor.remove_host(second.url)


def test_the_other_host_filters_its_ports(both: Site, second: Second) -> None:
    wait_for(lambda: reached(both), 60, "the guest of the other host")
    both.guest("left", "ip route replace 10.9.0.3 dev eth0")
    forged = (
        "ip address add 10.9.0.3/24 dev eth0; ping -c 2 -W 1 -I 10.9.0.3 10.9.0.1; ip address del 10.9.0.3/24 dev eth0"
    )
    assert "2 packets transmitted, 0 packets received" in both.guest("right", forged).stdout
    # it drops that, nobody else: without its filter there is an answer
    second.run("nft", "delete", "table", "bridge", "gatehouse")
    assert "2 packets transmitted, 2 packets received" in both.guest("right", forged).stdout
    assert both.hypervisor.repair_filter()
    assert "2 packets transmitted, 0 packets received" in both.guest("right", forged).stdout
    wait_for(lambda: reached(both), 60, "the guest of the other host")


def test_a_rate_is_kept_by_the_other_host(both: Site, second: Second) -> None:
    port = port_name("right", SPECS[1].nics[0].mac)
    both.hypervisor.set_rate("right", SPECS[1].nics[0].mac, 50)
    assert "tbf" in second.run("tc", "qdisc", "show", "dev", port)
    both.hypervisor.set_rate("right", SPECS[1].nics[0].mac, 0)
    assert "tbf" not in second.run("tc", "qdisc", "show", "dev", port)


def test_an_identity_is_for_the_appliance_alone(both: Site, second: Second) -> None:
    entry = "/sys/firmware/qemu_fw_cfg/by_name/opt/io.systemd.credentials/gatehouse."
    assert both.guest(ROUTER.id, f"cat {entry}key.pem/raw").stdout == SECRET
    assert both.guest(ROUTER.id, f"cat {entry}hostname/raw").stdout == "r-1-VM"
    assert both.guest(ROUTER.id, "cat /sys/block/vdb/serial").stdout == "gatehouse-state"
    assert SECRET not in command_line(Path(f"/proc/{qemu_of(ROUTER.id)}"))
    assert second.run("find", "/run", "-name", "*.pem") == ""
    files = [path for path in both.directory.rglob("*") if path.is_file() and 0 < path.stat().st_size < 1 << 16]
    assert files and not [path for path in files if SECRET.encode() in path.read_bytes()]
    # appliances reach the control plane and not each other
    shown = second.run("bridge", "-d", "link", "show", "dev", port_name(ROUTER.id, ROUTER.nics[0].mac))
    assert "isolated on" in shown and f"master {bridge_name(CONTROL)}" in shown


def test_a_guest_moves_to_another_host_while_it_runs(both: Site, second: Second) -> None:
    wait_for(lambda: reached(both), 60, "the guest of the other host")
    mac = SPECS[0].nics[0].mac
    before = float(both.guest("left", "cat /proc/uptime").stdout.split()[0])
    with pytest.raises(HypervisorError, match="its identity is on no disk"):
        both.hypervisor.migrate(ROUTER.id, both.daemon.uri)
    both.hypervisor.migrate("left", second.url)
    assert port_name("left", mac) in second.run("ip", "-o", "link")
    assert port_name("left", mac) not in both.host("ip", "-o", "link")
    assert port_name("left", mac) not in both.host("nft", "list", "table", "bridge", "gatehouse")
    # it went on, and its screen went along, with the clipboard's agent
    assert "com.redhat.spice.0" in both.guest("left", "cat /sys/class/virtio-ports/*/name").stdout
    assert float(both.guest("left", "cat /proc/uptime").stdout.split()[0]) > before
    assert both.guest("left", "ping -c 5 -W 2 10.9.0.2").returncode == 0
    assert both.hypervisor.console("left").host == both.hypervisor.console("right").host
    # and back, over the other network
    both.hypervisor.migrate("left", both.daemon.uri)
    wait_for(lambda: reached(both), 60, "the guest of the other host")
    assert Instance("left", "guest", "running") in both.hypervisor.instances()


def test_a_connection_that_breaks_is_made_again(both: Site, second: Second) -> None:
    second.ssh.cut()
    second.run("nft", "delete", "table", "bridge", "gatehouse")
    wait_for(lambda: both.hypervisor.power("right") == "running", 30, "the host to be back")
    # what was there has been adopted
    assert port_name("right", SPECS[1].nics[0].mac) in second.run("nft", "list", "table", "bridge", "gatehouse")
    assert [fact.up for fact in both.hypervisor.facts()] == [True, True]


def test_a_host_that_is_down_does_not_take_the_others_with_it(both: Site, second: Second) -> None:
    second.daemon.stop()
    second.ssh.cut()
    assert [fact.up for fact in both.hypervisor.facts()] == [True, False]
    assert Instance("right", "guest", "unknown") in both.hypervisor.instances()
    assert both.hypervisor.power("left") == "running"
    # a control plane that starts meanwhile, too
    both.hypervisor.close()
    both.hypervisor = both.driver()
    both.hypervisor.open()
    assert Instance("left", "guest", "running") in both.hypervisor.instances()
    second.daemon.start()
    assert [fact.up for fact in both.hypervisor.facts()] == [True, True]
    assert Instance("right", "guest", "running") in both.hypervisor.instances()


def test_a_host_goes_with_all_that_was_made_there(both: Site, second: Second) -> None:
    for instance in both.hypervisor.instances():
        both.hypervisor.destroy(instance.id)
    both.hypervisor.remove_host(second.url)
    links = json.loads(inside(second.pin, "ip", "-json", "link"))
    assert [link["ifname"] for link in links] == ["lo", "wan"]
    assert "gatehouse" not in second.run("nft", "list", "tables")
    assert list(Path("/run").glob("gatehouse-*")) == []
    assert "gatehouse" not in second.run("ls", "/run")
    assert [fact.url for fact in both.hypervisor.facts()] == [both.daemon.uri]
