"""Two hosts through the API: one is added over SSH, guests of both are on one network and move, and it is emptied."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cs import CloudStack, CloudStackApiException

from controlplane.hypervisors.bridges import port_name
from controlplane.hypervisors.libvirt.remote.keys import Keys
from tests.netns.controlplane.cloud import Answer
from tests.vm.libvirt.cloud import VirtualCloud, virtual_cloud
from tests.vm.libvirt.second import Second
from tests.vm.libvirt.site import BOOT, inside
from tests.wait import wait_for

MARK = "written before the move"
#: what the guest sends to the other all the time, a number a line
STREAM = "i=0; while :; do i=$((i + 1)); echo $i; sleep 0.1; done"
#: busybox's nc ends with its input
LISTENER = (
    "{ tail -f /dev/null | nc -l -p 9000 >/run/stream; } >/dev/null 2>&1 & "
    "until netstat -ltn | grep -q :9000; do sleep 0.2; done"
)


@dataclass(frozen=True)
class Hosts:
    """A control plane, its own host and the other one, and a guest on each: ``moving`` began on the other host."""

    cloud: VirtualCloud
    api: CloudStack
    second: Second
    first_id: str
    second_id: str
    router: Answer
    moving: Answer
    staying: Answer

    def sh(self, vm: Answer, script: str) -> str:
        return self.cloud.sh(vm["id"], script).stdout

    def host_of(self, vm: Answer) -> str:
        return str(self.api.listVirtualMachines(id=vm["id"])["virtualmachine"][0]["hostid"])

    def received(self) -> list[int]:
        """Of the stream, by the guest that stays."""
        return [int(line) for line in self.sh(self.staying, "cat /run/stream").split("\n")[:-1]]

    def goes_on(self) -> bool:
        """Whether the stream has more by now, with nothing missing."""
        before = len(self.received())
        now = wait_for(lambda: (found := self.received())[before + 5 :] and found, 60, "the stream to go on")
        return now == list(range(1, len(now) + 1))

    def port(self) -> str:
        """Of the guest that moves, on its host."""
        return port_name(self.moving["id"], self.moving["nic"][0]["macaddress"])


@pytest.fixture(scope="module")
def hosts(image: Path, guest_image: Path, acceleration: Path) -> Iterator[Hosts]:
    with virtual_cloud(image, guest_image, acceleration) as cloud:
        second = Second(cloud.directory, cloud.pin)
        second.open()
        try:
            yield _furnished(cloud, second)
        finally:
            cloud.empty()
            second.close()


def _furnished(cloud: VirtualCloud, second: Second) -> Hosts:
    api = cloud.admin
    zone = api.listZones()["zone"][0]["id"]
    wire = {"name": "between", "zoneid": zone, "isolationmethods": "VXLAN", "vlan": "200-299"}
    physical = api.createPhysicalNetwork(**wire)["physicalnetwork"]["id"]
    cloud.label({"Guest": "wan", "Management": "wan"}, physical)
    [first] = api.listHosts()["host"]
    added = _added(cloud, second, {"zoneid": zone, "podid": first["podid"], "hypervisor": "KVM", "url": second.url})
    network = cloud.network(api, "between", physicalnetworkid=physical)
    placed = []
    for name, closed in (("moving", first["id"]), ("staying", added["id"])):
        api.updateHost(id=closed, allocationstate="Disable")
        placed.append(cloud.deploy(api, name, network))
        api.updateHost(id=closed, allocationstate="Enable")
    return Hosts(cloud, api, second, first["id"], added["id"], cloud.router(network), *placed)


def _added(cloud: VirtualCloud, second: Second, host: dict[str, str]) -> Answer:
    """The second host, once the two things are done that addHost asks for."""
    keys = Keys(cloud.data / "libvirt/ssh")
    with pytest.raises(CloudStackApiException, match=r"host key is not known.* add it to .*/ssh/known_hosts"):
        cloud.admin.addHost(**host)
    keys.known_hosts.write_text(second.ssh.known())
    with pytest.raises(CloudStackApiException, match=r"authorized_keys of root there: ssh-ed25519 "):
        cloud.admin.addHost(**host)
    assert len(cloud.admin.listHosts()["host"]) == 1
    second.ssh.admit(keys.public)
    added: Answer = cloud.admin.addHost(**host)["host"]
    assert (added["state"], added["resourcestate"], added["hypervisor"]) == ("Up", "Enabled", "KVM")
    return added


def test_guests_of_two_hosts_are_on_one_network(hosts: Hosts) -> None:
    assert (hosts.host_of(hosts.moving), hosts.host_of(hosts.staying)) == (hosts.second_id, hosts.first_id)
    # the router, which is over there too, has given both their addresses
    assert hosts.router["hostid"] == hosts.second_id
    for vm in (hosts.moving, hosts.staying):
        address = vm["nic"][0]["ipaddress"]
        wait_for(lambda: f"inet {address}/" in hosts.sh(vm, "ip -4 address show eth0"), BOOT, "the lease")  # noqa: B023
    assert hosts.port() in hosts.second.run("ip", "-o", "link")
    hosts.sh(hosts.staying, LISTENER)
    hosts.sh(hosts.moving, f"{{ ( {STREAM} ) | nc {hosts.staying['nic'][0]['ipaddress']} 9000; }} >/dev/null 2>&1 &")
    assert hosts.goes_on()


def test_a_running_guest_moves_with_all_it_has(hosts: Hosts) -> None:
    api, vm = hosts.api, hosts.moving
    offering = api.listDiskOfferings(name="Small")["diskoffering"][0]["id"]
    volume = api.createVolume(name="data", zoneid=api.listZones()["zone"][0]["id"], diskofferingid=offering)["volume"]
    api.attachVolume(id=volume["id"], virtualmachineid=vm["id"])
    find = f"disk=/dev/$(grep -l {volume['id'].replace('-', '')[:20]} /sys/block/vd*/serial | cut -d / -f 4)"
    wait_for(lambda: hosts.sh(vm, f"{find}; [ -b $disk ] && echo there"), BOOT, "the disk")
    hosts.sh(vm, f"{find}; echo '{MARK}' | dd of=$disk conv=fsync")
    screen = hosts.cloud.machines.console(vm["id"])
    uptime = float(hosts.sh(vm, "cat /proc/uptime").split()[0])

    [found] = api.findHostsForMigration(virtualmachineid=vm["id"])["host"]
    assert (found["id"], found["suitableformigration"], found["requiresStorageMotion"]) == (hosts.first_id, True, False)
    moved = api.migrateVirtualMachine(virtualmachineid=vm["id"], hostid=found["id"])["virtualmachine"]
    assert (moved["hostid"], moved["state"]) == (hosts.first_id, "Running")

    assert hosts.goes_on()
    assert float(hosts.sh(vm, "cat /proc/uptime").split()[0]) > uptime
    assert f"inet {vm['nic'][0]['ipaddress']}/" in hosts.sh(vm, "ip -4 address show eth0")
    assert hosts.sh(vm, f"{find}; head -n 1 $disk").strip("\0\n") == MARK
    hosts.sh(vm, f"{find}; echo 'and after it' | dd of=$disk conv=fsync")
    assert hosts.sh(vm, f"{find}; head -n 1 $disk").strip("\0\n") == "and after it"
    now = hosts.cloud.machines.console(vm["id"])
    assert now.host != screen.host and now.password == screen.password
    assert f"{now.host}:{now.port} " in inside(hosts.cloud.pin, "ss", "-Hltn")
    assert hosts.port() not in hosts.second.run("ip", "-o", "link")
    # and back, for the host to have something
    api.migrateVirtualMachine(virtualmachineid=vm["id"], autoselect="true")
    assert hosts.host_of(vm) == hosts.second_id and hosts.goes_on()


def test_maintenance_empties_a_host(hosts: Hosts) -> None:
    prepared = hosts.api.prepareHostForMaintenance(id=hosts.second_id)["host"]
    assert (prepared["resourcestate"], prepared["memoryallocated"]) == ("Maintenance", 0)
    assert hosts.host_of(hosts.moving) == hosts.first_id
    assert hosts.goes_on()
    assert any("was moved to another host while it ran" in text for text in hosts.cloud.events("VM.MIGRATE"))
    [router] = hosts.api.listRouters(id=hosts.router["id"])["router"]
    assert (router["state"], router["hostid"]) == ("Running", hosts.first_id)
    # which it serves from there
    address = hosts.moving["nic"][0]["ipaddress"]
    wait_for(lambda: address in hosts.sh(hosts.staying, "nslookup moving 10.1.1.1"), BOOT, "the resolver")


def test_a_deleted_host_has_nothing_left(hosts: Hosts) -> None:
    hosts.api.deleteHost(id=hosts.second_id)
    assert [host["id"] for host in hosts.api.listHosts()["host"]] == [hosts.first_id]
    links = json.loads(hosts.second.run("ip", "-json", "link"))
    assert [link["ifname"] for link in links] == ["lo", "wan"]
    assert "gatehouse" not in hosts.second.run("nft", "list", "tables")
    assert "gatehouse" not in hosts.second.run("ls", "/run")
    assert hosts.second.run("virsh", "-c", hosts.second.daemon.uri, "list", "--name").strip() == ""
    # and the guests are none the worse
    assert hosts.goes_on()
