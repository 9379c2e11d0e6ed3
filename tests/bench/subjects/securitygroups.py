"""Security groups: a guest that joins a group, and a rule, from the API call to the first packet, by members.

The members beside the two guests that measure are rows, as running VMs on other hosts would be. The second part has as
many ports on one host.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from ipaddress import IPv4Address
from typing import Any

from controlplane.hypervisors.bridges import bridge_name
from controlplane.hypervisors.policy import TCP, Group, Policy, Rule
from controlplane.hypervisors.portfilter.model import Port
from controlplane.store.database import Database
from controlplane.store.models import Nic, SecurityGroupMember, Vm
from tests.bench import cloud as bench
from tests.bench.figures import Figure, Target
from tests.bench.subjects.api import FIRST_PACKET, running_cloud
from tests.netns.controlplane.cloud import Answer, Cloud
from tests.netns.lab import Lab
from tests.wait import wait_for

ORDER = 3

OFFERING = "DefaultSharedNetworkOfferingWithSGService"
FIRST_MEMBER = IPv4Address("198.18.4.0")


def measure(quick: bool) -> Iterator[Figure]:
    sizes, rounds = ((10, 100), 3) if quick else ((10, 100, 1_000), 11)
    joins: dict[int, list[float]] = {}
    with running_cloud() as cloud:
        site = _Site(cloud)
        for size in sizes:
            site.fill(size)
            joins[size] = [site.join() for _ in range(rounds + 1)][1:]
            rules = [site.rule(1000 + size + number) for number in range(rounds + 1)][1:]
            yield Figure(f"a guest joins a group of {size:,}: API call to first packet", "ms", joins[size])
            yield Figure(f"an ingress rule beside {size:,} members: API call to first packet", "ms", rules)
    few, many = sizes[0], sizes[-1]
    yield Figure(
        f"a guest joins a group of {many:,}, against {few:,}",
        "ms",
        joins[many],
        Target("at most", 1000),
        baseline=f"a group of {few:,}",
        baseline_samples=joins[few],
    )
    with bench.lab() as lab:
        for size in sizes:
            yield _ports(lab, size, rounds)


class _Site:
    """A server whose group lets another group in, and a client that joins that."""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud, self.api, self.members = cloud, cloud.admin, 0
        offering = self.api.listNetworkOfferings(name=OFFERING)["networkoffering"][0]["id"]
        zone = self.api.listZones()["zone"][0]["id"]
        subnet = {"gateway": "198.18.0.1", "netmask": "255.255.0.0", "startip": "198.18.0.10", "endip": "198.18.0.50"}
        self.network: Answer = self.api.createNetwork(
            name="groups", displaytext="groups", zoneid=zone, networkofferingid=offering, vlan="100", **subnet
        )["network"]
        self.db, self.web = (self.api.createSecurityGroup(name=name)["securitygroup"] for name in ("db", "web"))
        peer = {"usersecuritygrouplist[0].account": "admin", "usersecuritygrouplist[0].group": "web"}
        self.api.authorizeSecurityGroupIngress(securitygroupname="db", protocol="tcp", startport=80, **peer)
        self.server = cloud.deploy(self.api, "server", self.network, securitygroupids=self.db["id"])
        self.client = cloud.deploy(self.api, "client", self.network)
        self.address: str = self.server["nic"][0]["ipaddress"]
        for guest in (self.server, self.client):
            cloud.address(guest["id"])
        cloud.serve_page(self.server["id"], "server")

    def fill(self, size: int) -> None:
        """Members as the API would have made them."""
        with Database.in_directory(self.cloud.data).transaction() as session:
            like = session.get_one(Vm, self.client["id"])
            for number in range(self.members, size):
                vm = Vm(
                    name=f"member{number}",
                    display_name="",
                    # what looks after power leaves a VM that starts alone
                    state="Starting",
                    zone_id=like.zone_id,
                    account_id=like.account_id,
                    template_id=like.template_id,
                    service_offering_id=like.service_offering_id,
                )
                session.add(vm)
                session.flush()
                mac = f"02:02:00:00:{number >> 8:02x}:{number & 255:02x}"
                where = {"network_id": self.network["id"], "address": str(FIRST_MEMBER + number)}
                session.add(Nic(vm_id=vm.id, device_id=0, mac=mac, is_default=True, **where))
                session.add(SecurityGroupMember(vm_id=vm.id, group_id=self.web["id"]))
        self.members = size

    def join(self) -> float:
        """Milliseconds from the call that makes the client a member until it reaches the server."""

        def act() -> None:
            self.api.updateVirtualMachine(id=self.client["id"], securitygroupnames="web")

        took = self._first_packet(80, act)
        self.api.updateVirtualMachine(id=self.client["id"], securitygroupnames="default")
        wait_for(lambda: not self.cloud.fetch(self.client["id"], f"http://{self.address}/", 0.2), 10, "it to be out")
        return took

    def rule(self, port: int) -> float:
        """The same for a rule that opens a port to everybody."""
        self.cloud.serve_page(self.server["id"], "server", port)

        def act() -> None:
            self.cloud.sender.authorizeSecurityGroupIngress(
                securitygroupname="db", protocol="tcp", startport=port, cidrlist="0.0.0.0/0"
            )

        return self._first_packet(port, act)

    def _first_packet(self, port: int, act: Any) -> float:
        argv = self.cloud.instances.command(self.client["id"], ["/usr/bin/python3", "-c", FIRST_PACKET.read_text()])
        with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as prober:
            assert prober.stdin and prober.stdout
            prober.stdin.write(f"{self.address} {port}\n")
            prober.stdin.flush()
            time.sleep(0.2)  # it is trying by now, so that its start is not measured
            begin = time.monotonic()
            act()
            moment = prober.stdout.readline().strip()
            prober.stdin.close()
        assert moment != "late", f"port {port} did not open"
        return (float(moment) - begin) * 1000


def _ports(lab: Lab, size: int, rounds: int) -> Figure:
    """One member more, on a host with ``size`` secured ports of members of the group that it joins."""
    hypervisor, segment = lab.hypervisor, lab.segment()
    macs = [f"02:03:00:00:{number >> 8:02x}:{number & 255:02x}" for number in range(size)]
    addresses = [str(FIRST_MEMBER + number) for number in range(size + rounds + 1)]
    filter = hypervisor._filter  # as if that many guests were plugged in: to start them takes minutes
    filter.open(
        {
            f"gh{number:012x}": Port(mac, bridge_name(segment), (address,), secured=True)
            for number, (mac, address) in enumerate(zip(macs, addresses, strict=False))
        }
    )
    groups = {"web": Group(frozenset({Rule(TCP, (80, 80), peer="web"), Rule(TCP, (22, 22), cidr="0.0.0.0/0")}))}
    ports = {(f"g-{number}", mac): ("web",) for number, mac in enumerate(macs)}
    times = []
    for number in range(rounds + 1):
        members = {"web": frozenset(addresses[: size + number])}
        begin = time.monotonic()
        hypervisor.apply_policy(Policy(groups, members, ports))
        times.append((time.monotonic() - begin) * 1000)
    hypervisor.apply_policy(Policy())
    filter.open({})
    return Figure(f"one member more, {size:,} secured ports on the host: policy to kernel", "ms", times[1:])
