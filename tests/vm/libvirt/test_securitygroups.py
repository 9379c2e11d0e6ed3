"""Security groups and forged frames of virtual machines, from the API to the packets. No router is needed for them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from cs import CloudStack

from controlplane.hypervisors.bridges import port_name
from tests.netns.api.test_shared_networks import shared_network
from tests.netns.controlplane.cloud import Answer
from tests.vm.libvirt.cloud import VirtualCloud, virtual_cloud
from tests.vm.libvirt.site import BOOT
from tests.wait import wait_for

#: prints in hexadecimal each Ethernet frame that is delivered to a port
_SNIFF = """
import socket, sys
sniffer = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
sniffer.bind((sys.argv[1], 3))
print("ready", flush=True)
while True:
    frame, place = sniffer.recvfrom(2000)
    if place[2] == socket.PACKET_OUTGOING:
        print(frame.hex(), flush=True)
"""


@dataclass(frozen=True)
class Site:
    """Two guests on a network with security groups: one serves a page, the other asks for it."""

    cloud: VirtualCloud
    api: CloudStack
    server: Answer
    client: Answer

    def client_runs(self, script: str) -> str:
        return self.cloud.sh(self.client["id"], script).stdout

    def reaches(self) -> bool:
        request = "printf 'GET / HTTP/1.0\\r\\n\\r\\n'"
        return "hello" in self.client_runs(f"{request} | nc -w 5 {address(self.server)} 80")

    def comes_to_reach(self) -> bool:
        """A busy machine may take longer than one request has."""
        return wait_for(self.reaches, BOOT, "the page")

    def pings(self) -> bool:
        return "bytes from" in self.client_runs(f"ping -c 1 -W 2 {address(self.server)}")


def address(vm: Answer) -> str:
    return str(vm["nic"][0]["ipaddress"])


@pytest.fixture(scope="module")
def site(guest_image: Path, acceleration: Path) -> Iterator[Site]:
    with virtual_cloud(guest_image, guest_image, acceleration) as cloud:
        yield _furnished(cloud)


def _furnished(cloud: VirtualCloud) -> Site:
    api = cloud.admin
    offering = api.createNetworkOffering(
        name="groups",
        displaytext="groups",
        guestiptype="Shared",
        traffictype="GUEST",
        specifyvlan=True,
        specifyipranges=True,
        supportedservices="SecurityGroup",
        **{
            "serviceproviderlist[0].service": "SecurityGroup",
            "serviceproviderlist[0].provider": "SecurityGroupProvider",
        },
    )["networkoffering"]["id"]
    api.updateNetworkOffering(id=offering, state="Enabled")
    network = shared_network(cloud, "secured", networkofferingid=offering)
    server, client = (cloud.deploy(api, name, network) for name in ("server", "client"))
    for vm in (server, client):
        # no DHCP server is there: what its client does while it finds none must not take the address away
        cloud.sh(vm["id"], "printf '#!/usr/bin/busybox sh\\n' >/etc/guest/udhcpc")
        cloud.sh(vm["id"], f"ip link set eth0 up; ip address replace {address(vm)}/24 dev eth0")
    cloud.sh(server["id"], "mkdir -p /run/www; echo hello >/run/www/index.html; httpd -p 80 -h /run/www")
    return Site(cloud, api, server, client)


def test_rules_and_members_change_under_running_machines(site: Site) -> None:
    api = site.api
    assert not site.reaches()
    api.createSecurityGroup(name="clients")
    [rule] = api.authorizeSecurityGroupIngress(
        securitygroupname="default",
        protocol="tcp",
        startport=80,
        endport=80,
        **{"usersecuritygrouplist[0].account": "admin", "usersecuritygrouplist[0].group": "clients"},
    )["securitygroup"]["ingressrule"]
    # it is in another group
    assert not site.reaches()
    api.updateVirtualMachine(id=site.client["id"], securitygroupnames="default,clients")
    assert site.comes_to_reach()
    assert not site.pings()
    api.updateVirtualMachine(id=site.client["id"], securitygroupnames="default")
    assert not site.reaches()
    everybody = api.authorizeSecurityGroupIngress(
        securitygroupname="default", protocol="icmp", icmptype=-1, icmpcode=-1, cidrlist="0.0.0.0/0"
    )["securitygroup"]["ingressrule"]
    wait_for(site.pings, BOOT, "an echo")
    for id in (rule["ruleid"], everybody[0]["ruleid"]):
        api.revokeSecurityGroupIngress(id=id)
    assert not site.pings()


@contextmanager
def listening(site: Site) -> Iterator[subprocess.Popen[str]]:
    """What the host delivers to the server's port meanwhile."""
    port = port_name(site.server["id"], site.server["nic"][0]["macaddress"])
    argv = ["nsenter", f"--net={site.cloud.pin}", sys.executable, "-c", _SNIFF, port]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None and process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


def test_what_a_machine_forges_reaches_nobody(site: Site) -> None:
    server, mac = address(site.server), site.client["nic"][0]["macaddress"]
    stranger, false_mac = "198.18.0.49", "02:de:ad:be:ef:01"
    everything = {"protocol": "all", "cidrlist": "0.0.0.0/0"}
    [rule] = site.api.authorizeSecurityGroupIngress(securitygroupname="default", **everything)["securitygroup"][
        "ingressrule"
    ]
    wait_for(site.pings, BOOT, "an echo")
    with listening(site) as sniffer:
        site.client_runs(
            f"ip address add {stranger}/24 dev eth0; ping -c 2 -W 1 -I {stranger} {server};"
            f"arping -c 2 -w 2 -U -I eth0 -s {stranger} {stranger}; arping -c 2 -w 2 -A -I eth0 -s {server} {server};"
            f"echo offer | nc -u -w 1 -p 67 {server} 68; echo offer | nc -u -w 1 -p 4011 {server} 68;"
            f"ip address del {stranger}/24 dev eth0;"
            f"ip link set eth0 address {false_mac}; ping -c 2 -W 1 {server};"
            f"ip link set eth0 address {mac}"
        )
        # the last frame is an honest one
        wait_for(site.pings, BOOT, "the client as itself")
        assert sniffer.stdout is not None
        heard: list[bytes] = []
        while not heard or not _is_echo(heard[-1]):
            heard.append(bytes.fromhex(sniffer.stdout.readline()))
        # its own requests for a lease are honest
        heard = [frame for frame in heard if not _asks_for_lease(frame, mac)]
    assert {frame[6:12].hex(":") for frame in heard} == {mac}
    senders = {frame[28:32] for frame in heard if frame[12:14] == b"\x08\x06"}
    senders |= {frame[26:30] for frame in heard if frame[12:14] == b"\x08\x00"}
    assert {".".join(map(str, sender)) for sender in senders} == {address(site.client)}
    assert not any(frame[12:14] == b"\x08\x00" and frame[23] == 17 for frame in heard)
    site.api.revokeSecurityGroupIngress(id=rule["ruleid"])


def _asks_for_lease(frame: bytes, mac: str) -> bool:
    """A DHCP client's message about its own MAC, to a server's port."""
    return frame[12:14] == b"\x08\x00" and frame[34:38] == bytes([0, 68, 0, 67]) and frame[70:76].hex(":") == mac


def _is_echo(frame: bytes) -> bool:
    """An echo request of ICMP over IPv4."""
    return frame[12:14] == b"\x08\x00" and frame[23] == 1 and frame[34] == 8
