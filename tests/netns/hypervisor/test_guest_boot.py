"""What a guest of the builtin template does by itself: addresses, name, password, SSH key, SSH server."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from appliance.run import run
from controlplane.hypervisors.base import Nic
from tests.netns.lab import Lab, Machine
from tests.wait import wait_for

MAC = "02:bb:00:00:00:01"
PASSWORD = "correct horse: $taple"

#: a router's password server and metadata in a few lines; what it is asked is written down
SERVER = """
import http.server, json, sys, threading
password, key = json.loads(sys.argv[1])
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        word = self.headers.get("DomU_Request", "")
        with open("/run/asked", "a") as file: print(word or self.path, file=file)
        body = (password if word == "send_my_password" else "saved_password" if word else key).encode()
        self.send_response(200); self.send_header("Content-Length", str(len(body))); self.end_headers()
        self.wfile.write(body)
threading.Thread(target=http.server.HTTPServer(("", 80), Handler).serve_forever).start()
http.server.HTTPServer(("", 8080), Handler).serve_forever()
"""


@pytest.fixture(scope="module")
def network(lab: Lab) -> str:
    return lab.segment()


@pytest.fixture(scope="module")
def router(lab: Lab, network: str) -> Iterator[Machine]:
    """Stands in for a router: this is about the guest."""
    machine = lab.guest(network, address="10.1.1.1/24")
    machine.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", "/root/key"])
    answers = json.dumps([PASSWORD, machine.read("/root/key.pub")])
    machine.popen(["/usr/bin/python3", "-c", SERVER, answers])
    dnsmasq = ["dnsmasq", "--no-daemon", "--conf-file=/dev/null", "--user=root", "--dhcp-leasefile=/run/leases"]
    hosts = [f"--dhcp-host={MAC},10.1.1.5,vm1", "--dhcp-host=02:bb:00:00:00:02,10.1.1.6,vm1-second"]
    ranges = ["--dhcp-range=10.1.1.0,static,255.255.255.0", "--domain=a.example", "--dhcp-option=option:mtu,1400"]
    second = ["--dhcp-mac=set:second,02:bb:00:00:00:02", "--dhcp-option=tag:second,3", "--dhcp-option=tag:second,6"]
    machine.popen([*dnsmasq, *hosts, *ranges, *second])
    wait_for(lambda: machine.connects("10.1.1.1", 53) and machine.connects("10.1.1.1", 8080), 5, "the servers")
    yield machine


@pytest.fixture(scope="module")
def guest(lab: Lab, network: str, router: Machine) -> Machine:
    machine = lab.guest(network, MAC, hostname="fresh", template="builtin")
    wait_for(lambda: "set" in machine.read("/var/log/credentials.log"), 15, "the guest to have its password")
    return machine


def test_address_route_resolver_and_name_come_from_the_lease(guest: Machine) -> None:
    assert "10.1.1.5/24" in guest.run(["ip", "-brief", "address", "show", "eth0"]).stdout
    assert guest.run(["ip", "route", "show", "default"]).stdout.split()[:3] == ["default", "via", "10.1.1.1"]
    assert guest.read("/etc/resolv.conf").splitlines() == ["search a.example", "nameserver 10.1.1.1"]
    assert guest.run(["hostname"]).stdout.strip() == "vm1"
    assert guest.read("/sys/class/net/eth0/mtu").strip() == "1400"


def test_the_password_is_set_and_fetched_once(guest: Machine, router: Machine) -> None:
    wait_for(lambda: "SSH key set" in guest.read("/var/log/credentials.log"), 10, "the key")
    shadow = next(line for line in guest.read("/etc/shadow").splitlines() if line.startswith("root:")).split(":")[1]
    salt = shadow.split("$")[2]
    assert run(["openssl", "passwd", "-6", "-salt", salt, "-stdin"], stdin=PASSWORD).stdout.strip() == shadow
    asked = router.read("/run/asked").splitlines()
    assert asked == ["send_my_password", "saved_password", "/latest/public-keys"]
    assert PASSWORD not in guest.read("/var/log/credentials.log")


def test_the_key_opens_the_ssh_server(guest: Machine, router: Machine) -> None:
    options = ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "BatchMode=yes"]
    command = ["ssh", "-q", "-i", "/root/key", *options, "root@10.1.1.5", "hostname"]
    assert wait_for(lambda: router.run(command).stdout, 10, "SSH").strip() == "vm1"


def test_a_nic_that_is_plugged_later_gets_its_address_too(guest: Machine, lab: Lab, network: str) -> None:
    before = guest.read("/etc/resolv.conf")
    lab.hypervisor.attach_nic(guest.id, Nic("02:bb:00:00:00:02", network, trusted=True))
    wait_for(
        lambda: "10.1.1.6" in guest.run(["ip", "-brief", "address", "show", "eth1"]).stdout, 10, "the second address"
    )
    assert guest.read("/etc/resolv.conf") == before
    assert guest.run(["hostname"]).stdout.strip() == "vm1"
    routes = guest.run(["ip", "route", "show", "default"]).stdout.splitlines()
    assert [route.split()[4] for route in routes] == ["eth0"]
    lab.hypervisor.detach_nic(guest.id, "02:bb:00:00:00:02")
    wait_for(lambda: "-i eth1" not in " ".join(guest.processes().values()), 10, "its DHCP client to end")
