"""A tenant's network on virtual machines, from the API to the packets: what the README's section promises."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from cs import CloudStack, CloudStackApiException

from appliance.run import run
from tests.netns.controlplane.cloud import WEB, Answer
from tests.vm.libvirt.cloud import VirtualCloud, virtual_cloud
from tests.vm.libvirt.site import BOOT, inside
from tests.wait import wait_for

OFFERING = "DefaultIsolatedNetworkOfferingWithSourceNatServiceEgressAllow"


@pytest.fixture(scope="module")
def cloud(image: Path, guest_image: Path, acceleration: Path) -> Iterator[VirtualCloud]:
    with virtual_cloud(image, guest_image, acceleration) as made:
        yield made


@pytest.fixture(scope="module")
def api(cloud: VirtualCloud) -> CloudStack:
    return cloud.admin


@pytest.fixture(scope="module")
def network(api: CloudStack) -> Answer:
    zone = api.listZones()["zone"][0]["id"]
    offering = api.listNetworkOfferings(name=OFFERING)["networkoffering"][0]["id"]
    made: Answer = api.createNetwork(name="n", displaytext="n", zoneid=zone, networkofferingid=offering)["network"]
    return made


@pytest.fixture(scope="module")
def vm(cloud: VirtualCloud, api: CloudStack, network: Answer) -> Answer:
    deployed = cloud.deploy(api, "vm1", network)
    cloud.sh(deployed["id"], "until grep -q nameserver /etc/resolv.conf; do sleep 1; done")
    cloud.connect_outside()
    return deployed


def test_the_guest_gets_its_address_name_and_resolver(cloud: VirtualCloud, vm: Answer) -> None:
    address = vm["nic"][0]["ipaddress"]
    assert f"inet {address}/24" in cloud.sh(vm["id"], "ip -4 address show eth0").stdout
    assert cloud.sh(vm["id"], "hostname").stdout == "vm1\n"
    assert address in cloud.sh(vm["id"], "nslookup vm1 10.1.1.1").stdout


def test_the_guest_learns_about_itself_and_sets_its_password(cloud: VirtualCloud, vm: Answer) -> None:
    fetched = cloud.sh(vm["id"], "wget -q -O - http://10.1.1.1/latest/meta-data/instance-id").stdout
    assert fetched.strip() == vm["id"]
    script = "until grep 'password set' /var/log/credentials.log; do sleep 1; done; grep ^root: /etc/shadow"
    shadow = cloud.sh(vm["id"], script).stdout.splitlines()[-1].split(":")[1]
    salt = shadow.split("$")[2]
    again = cloud.sh(vm["id"], f"echo '{vm['password']}' | mkpasswd -m sha512 -S {salt} -P 0").stdout.strip()
    assert again == shadow


def test_the_guest_is_on_the_internet_under_its_networks_address(
    cloud: VirtualCloud, api: CloudStack, network: Answer, vm: Answer
) -> None:
    [source] = api.listPublicIpAddresses(associatednetworkid=network["id"], issourcenat=True)["publicipaddress"]
    asked = f"for i in 1 2 3 4 5; do wget -q -O - http://{WEB}/ && break; sleep 1; done"
    assert cloud.sh(vm["id"], asked).stdout == source["ipaddress"]


def test_hosts_know_what_they_have_promised(api: CloudStack, vm: Answer) -> None:
    [host] = api.listHosts()["host"]
    assert (host["state"], host["hypervisor"]) == ("Up", "KVM")
    # the guest's offering and the router's
    assert host["memoryallocated"] >= (vm["memory"] + 256) << 20
    assert host["cpuspeed"] > 0 and 0 < host["memoryused"] < host["memorytotal"]
    assert vm["hostid"] == host["id"]


def test_a_host_that_is_disabled_gets_nothing_new(
    cloud: VirtualCloud, api: CloudStack, network: Answer, vm: Answer
) -> None:
    [host] = api.listHosts()["host"]
    api.updateHost(id=host["id"], allocationstate="Disable")
    try:
        with pytest.raises(CloudStackApiException, match="533"):
            cloud.deploy(api, "vm2", network)
        assert api.listVirtualMachines(id=vm["id"])["virtualmachine"][0]["state"] == "Running"
    finally:
        api.updateHost(id=host["id"], allocationstate="Enable")


def test_a_control_plane_that_was_killed_adopts_its_machines(
    cloud: VirtualCloud, api: CloudStack, network: Answer, vm: Answer
) -> None:
    before = cloud.domains()
    cloud.kill()
    cloud.start()
    assert cloud.domains() == before
    [address] = api.listPublicIpAddresses(associatednetworkid=network["id"], issourcenat=True)["publicipaddress"]
    api.createPortForwardingRule(
        ipaddressid=address["id"],
        protocol="tcp",
        publicport=8080,
        privateport=80,
        virtualmachineid=vm["id"],
        openfirewall="true",
    )
    cloud.sh(vm["id"], "mkdir -p /run/www; echo hello >/run/www/index.html; httpd -p 80 -h /run/www")
    fetch = [*cloud.outside(), "curl", "-s", "-m", "5", f"http://{address['ipaddress']}:8080/"]
    wait_for(lambda: run(fetch, check=False).stdout == "hello\n", 20, "the guest's page outside")


def test_a_guest_that_shuts_itself_down_is_stopped_and_starts_again(
    cloud: VirtualCloud, api: CloudStack, vm: Answer
) -> None:
    # once the guest's agent has answered
    cloud.sh(vm["id"], "{ sleep 1; poweroff; } >/dev/null 2>&1 &")
    wait_for(
        lambda: api.listVirtualMachines(id=vm["id"])["virtualmachine"][0]["state"] == "Stopped",
        BOOT,
        "it to be noticed",
    )
    assert api.startVirtualMachine(id=vm["id"])["virtualmachine"]["state"] == "Running"
    assert "inet " in cloud.sh(vm["id"], "sleep 5; ip -4 address show eth0").stdout


def _state(api: CloudStack, vm: Answer) -> str:
    return str(api.listVirtualMachines(id=vm["id"])["virtualmachine"][0]["state"])


def test_nothing_is_left_of_what_is_destroyed(
    cloud: VirtualCloud, api: CloudStack, network: Answer, vm: Answer
) -> None:
    api.destroyVirtualMachine(id=vm["id"], expunge="true")
    for other in api.listVirtualMachines(listall="true").get("virtualmachine", []):
        api.destroyVirtualMachine(id=other["id"], expunge="true")
    api.deleteNetwork(id=network["id"])
    api.updateConfiguration(name="consoleproxy.disabled", value="true")
    wait_for(lambda: cloud.domains() == {}, BOOT, "the console proxy to go")
    assert list((cloud.storage / "instances").iterdir()) == []
    links = inside(cloud.pin, "ip", "-o", "link")
    assert " gh" not in links and f"guest-{network['id']}" not in links
