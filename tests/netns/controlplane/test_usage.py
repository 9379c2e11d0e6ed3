"""Metering and rates of a whole cloud: what guests really sent and received is what the records say."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from cs import CloudStack

from tests.netns.controlplane.cloud import INTERNET, Answer, Cloud
from tests.wait import wait_for

SIZE = 2_000_000
ALL_TIME = {
    "startdate": f"{datetime.now(UTC) - timedelta(days=2):%Y-%m-%d}",
    "enddate": f"{datetime.now(UTC) + timedelta(days=2):%Y-%m-%d}",
}


@dataclass
class Site:
    cloud: Cloud
    network: Answer
    vm: Answer
    public: Answer

    @property
    def api(self) -> CloudStack:
        return self.cloud.admin

    def download(self) -> None:
        """The internet fetches SIZE bytes from the guest."""
        url = f"http://{self.public['ipaddress']}:8080/big"
        argv = ["curl", "-s", "-m", "60", "-o", "/dev/null", "-w", "%{size_download}", url]
        assert int(self.cloud.run(INTERNET, argv, timeout=90).stdout) == SIZE

    def sent(self) -> int:
        """What the guest sent as its own interface counts it, Ethernet headers included."""
        return int(self.cloud.run(self.vm["id"], ["cat", "/sys/class/net/eth0/statistics/tx_bytes"]).stdout)

    def told(self) -> int:
        """What the guest sent as the history of its traffic has it."""
        found = self.api.listTrafficHistory(virtualmachineid=self.vm["id"], pagesize=-1).get("traffic", [])
        return sum(item["bytessent"] for item in found)

    def billed(self, kind: int) -> float:
        """All usage of a type that records tell of."""
        found = self.api.listUsageRecords(type=kind, pagesize=-1, **ALL_TIME).get("usagerecord", [])
        return sum(float(item["rawusage"]) for item in found)

    def kill(self) -> None:
        """Kill the control plane between a reading and its commit, or wherever it is."""
        self.cloud.kill()
        self.cloud.start()

    def collected(self) -> Callable[[], bool]:
        """Whether two readings of the router have passed since this was called."""
        begun = datetime.now(UTC) + timedelta(seconds=1)
        statement = "select max(taken) from traffic_counter"

        def done() -> bool:
            [[taken]] = self.cloud.rows(statement)
            return taken is not None and datetime.fromisoformat(taken).replace(tzinfo=UTC) > begun

        return done


@pytest.fixture(scope="module")
def site(cloud: Cloud) -> Site:
    cloud.admin.updateConfiguration(name="router.stats.interval", value="1")
    network = cloud.network(cloud.admin, "net")
    vm = cloud.deploy(cloud.admin, "metered", network)
    cloud.address(vm["id"])
    script = (
        f"mkdir -p /run/www && head -c {SIZE} /dev/zero >/run/www/big && "
        "setsid -f python3 -m http.server -d /run/www 80 >/dev/null 2>&1 </dev/null"
    )
    cloud.run(vm["id"], ["sh", "-c", script])
    wait_for(lambda: cloud.fetch(vm["id"], "http://127.0.0.1/"), 10, "the web server")
    [public] = cloud.admin.listPublicIpAddresses(associatednetworkid=network["id"])["publicipaddress"]
    cloud.admin.createPortForwardingRule(
        ipaddressid=public["id"], virtualmachineid=vm["id"], protocol="tcp", publicport=8080, privateport=80
    )
    cloud.admin.createFirewallRule(ipaddressid=public["id"], protocol="tcp", startport=1, endport=65535)
    cloud.admin.createEgressFirewallRule(networkid=network["id"], protocol="all")
    return Site(cloud, network, vm, public)


def test_no_byte_is_lost_or_told_twice_by_kills(site: Site) -> None:
    wait_for(site.collected(), 20, "the counters to be collected")
    told, sent = site.told(), site.sent()
    for disturb in (
        lambda: None,
        site.kill,
        lambda: site.cloud.run(
            site.cloud.router(site.network)["id"], ["sh", "-c", "kill -9 $(pgrep -f [a]ppliance.agent)"]
        ),
        lambda: site.api.createFirewallRule(ipaddressid=site.public["id"], protocol="udp", startport=9, endport=9),
    ):
        site.download()
        disturb()
        site.download()
    wait_for(site.collected(), 30, "the counters to be collected")
    grown, really = site.told() - told, site.sent() - sent
    assert really > 8 * SIZE
    # 14 bytes of each packet are Ethernet's, and the guest says some things to the router alone (DHCP, DNS, ARP)
    assert 0.97 * really < grown < really


def test_records_say_what_was_used_and_the_router_s_end_loses_nothing(site: Site) -> None:
    api = site.api
    site.download()
    told, sent = site.told(), site.sent()
    # nobody collects from here on: what the router has is asked for when it goes
    api.updateConfiguration(name="router.stats.interval", value="0")
    site.download()
    api.restartNetwork(id=site.network["id"], cleanup=True)
    assert site.told() - told > 0.97 * (site.sent() - sent) > 0.97 * SIZE
    api.updateConfiguration(name="router.stats.interval", value="1")
    api.generateUsageRecords(**ALL_TIME)
    api.generateUsageRecords(**ALL_TIME)
    billed = site.billed(4)
    assert billed > 9 * SIZE
    by_address = api.listTrafficHistory(ipaddressid=site.public["id"], pagesize=-1)["traffic"]
    assert billed == pytest.approx(sum(item["bytessent"] for item in by_address), abs=SIZE / 100)
    hours = site.billed(1)
    ran = api.listUsageRecords(type=1, **ALL_TIME)["usagerecord"]
    assert {item["virtualmachineid"] for item in ran} == {site.vm["id"]}
    # stopped, it runs no more; it is there all the same
    api.stopVirtualMachine(id=site.vm["id"])
    allocated = site.billed(2)
    begun = time.time()
    wait_for(lambda: time.time() - begun > 2, 5, "two seconds")
    api.generateUsageRecords()
    assert site.billed(2) - allocated > 2 / 3600
    assert site.billed(1) - hours < site.billed(2) - allocated - 2 / 3600 + 1e-9
    api.startVirtualMachine(id=site.vm["id"])


def test_rates_change_while_the_guest_runs(site: Site) -> None:
    site.cloud.address(site.vm["id"])
    site.api.createPortForwardingRule(
        ipaddressid=site.public["id"],
        virtualmachineid=site.vm["id"],
        protocol="tcp",
        publicport=5201,
        privateport=5201,
        openfirewall="false",
    )
    for name, rate in (("network.throttling.rate", 20), ("vm.network.throttling.rate", 8)):
        site.api.updateConfiguration(name=name, value=str(rate))
        for direction in ([], ["-R"]):
            deadline, found = time.monotonic() + 90, [0.0]
            while found[-1] != pytest.approx(rate, rel=0.05) and time.monotonic() < deadline:
                found.append(_measured(site, direction))
            assert found[-1] == pytest.approx(rate, rel=0.05), (name, direction, found)


def _measured(site: Site, direction: list[str]) -> float:
    """Mbit/s of a TCP stream from the internet to the guest, or back; 0 when there was none."""
    # a server for one stream each: it does not take the next one while it is busy with the last
    site.cloud.run(site.vm["id"], ["sh", "-c", "pkill -x iperf3; exec iperf3 -s -1 -D"])
    wait_for(lambda: "5201" in site.cloud.run(site.vm["id"], ["ss", "-ltn"]).stdout, 5, "iperf3")
    argv = ["timeout", "15", "iperf3", "-J", "-c", site.public["ipaddress"], "-t", "4", "-O", "1", *direction]
    end = json.loads(site.cloud.run(INTERNET, argv, check=False).stdout or "{}").get("end", {})
    received: float = end.get("sum_received", {}).get("bits_per_second", 0.0)
    return received / 1e6
