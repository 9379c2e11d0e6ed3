"""What must be survived: killed processes, a rebuilt router, drift, and many guests at once."""

from __future__ import annotations

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from cs import CloudStackApiException

from tests.netns.controlplane.cloud import INTERNET, WEB, Answer, Cloud, seconds
from tests.wait import wait_for


@pytest.fixture(scope="module")
def network(cloud: Cloud) -> Answer:
    """A network with one guest that serves a page to the internet on port 8080."""
    made = cloud.network(cloud.admin, "net")
    vm = cloud.deploy(cloud.admin, "first", made)
    cloud.address(vm["id"])
    cloud.serve_page(vm["id"], "first page")
    [public] = cloud.admin.listPublicIpAddresses(associatednetworkid=made["id"])["publicipaddress"]
    cloud.admin.createPortForwardingRule(
        ipaddressid=public["id"], virtualmachineid=vm["id"], protocol="tcp", publicport=8080, privateport=80
    )
    cloud.admin.createFirewallRule(ipaddressid=public["id"], protocol="tcp", startport=8080, endport=8080)
    cloud.admin.createEgressFirewallRule(networkid=made["id"], protocol="all")
    made["public"], made["vm"] = public, vm
    assert serves(cloud, made)
    return made


def serves(cloud: Cloud, network: Answer) -> bool:
    return cloud.fetch(INTERNET, f"http://{network['public']['ipaddress']}:8080/") == "first page"


def test_networks_work_while_the_control_plane_is_down(cloud: Cloud, network: Answer) -> None:
    assert cloud.stop() == 0
    try:
        assert serves(cloud, network)
        assert cloud.fetch(network["vm"]["id"], f"http://{WEB}/") == "the internet"
        cloud.run(network["vm"]["id"], ["dig", "+short", "first", "@10.1.1.1"])
    finally:
        cloud.start()


def test_drift_is_repaired_and_recorded(cloud: Cloud, network: Answer) -> None:
    router = cloud.router(network)
    cloud.run(router["id"], ["nft", "flush", "ruleset"])
    wait_for(lambda: serves(cloud, network), 10, "the page again")
    wait_for(lambda: cloud.events("ROUTER.REPAIR"), 15, "the event")


def test_a_killed_agent_costs_nothing(cloud: Cloud, network: Answer) -> None:
    router = cloud.router(network)["id"]
    cloud.run(router, ["sh", "-c", "kill -9 $(pgrep -f [a]ppliance.agent)"])
    assert serves(cloud, network)
    rule = cloud.admin.createFirewallRule(
        ipaddressid=network["public"]["id"], protocol="tcp", startport=9000, endport=9000
    )
    assert rule["firewallrule"]["state"] == "Active"


def test_a_router_that_was_killed_comes_back_by_itself(cloud: Cloud, network: Answer) -> None:
    router = cloud.router(network)["id"]
    # its first process: everything in it goes at once
    process = cloud.instances._process(router)
    assert process is not None
    os.kill(process.pid, signal.SIGKILL)
    wait_for(lambda: serves(cloud, network), 30, "the page again")


def test_a_destroyed_router_is_rebuilt(cloud: Cloud, network: Answer) -> None:
    before = cloud.router(network)
    cloud.admin.destroyRouter(id=before["id"])
    assert cloud.admin.listRouters(networkid=network["id"]).get("router", []) == []
    assert not serves(cloud, network)
    begun = time.monotonic()
    cloud.admin.restartNetwork(id=network["id"], cleanup=True)
    assert serves(cloud, network), "the job's end means that the network works"
    after = cloud.router(network)
    assert after["id"] != before["id"]
    assert after["publicip"] == before["publicip"]
    print(f"router rebuilt in {seconds(begun)} s")


def test_twenty_guests_at_once(cloud: Cloud, network: Answer) -> None:
    sender, placement = cloud.sender, cloud.placement(cloud.admin)
    begun = time.monotonic()

    def deploy(number: int) -> Answer:
        answer: Answer = sender.deployVirtualMachine(name=f"many{number}", networkids=network["id"], **placement)
        return answer

    with ThreadPoolExecutor(20) as pool:
        made = list(pool.map(deploy, range(20)))
    jobs = [answer["jobid"] for answer in made]
    wait_for(lambda: set(cloud.jobs(jobs).values()) <= {1, 2}, 90, "the jobs to end", interval=0.5)
    assert set(cloud.jobs(jobs).values()) == {1}
    addresses = [cloud.address(answer["id"], 60) for answer in made]
    assert len(set(addresses)) == 20
    print(f"20 guests deployed and leased in {seconds(begun)} s")
    for answer in made:
        sender.destroyVirtualMachine(id=answer["id"], expunge=True)
    gone = "SELECT count(*) FROM vm WHERE name LIKE 'many%' AND removed IS NULL"
    wait_for(lambda: cloud.rows(gone) == [(0,)], 60, "the guests to go", interval=0.5)
    wait_for(lambda: serves(cloud, network), 5, "the page")


@pytest.mark.parametrize("how", ["kill", "stop"])
def test_ended_in_the_middle_of_fifty_jobs(cloud: Cloud, network: Answer, how: str) -> None:
    sender, placement = cloud.sender, cloud.placement(cloud.admin)
    zone, offering = network["zoneid"], network["networkofferingid"]
    others = [
        cloud.admin.createNetwork(
            name=f"{how}{number}", displaytext="n", zoneid=zone, networkofferingid=offering, gateway="10.1.1.1",
            netmask="255.255.255.0",
        )["network"]
        for number in range(3)
    ]  # fmt: skip
    public = network["public"]["id"]

    def submit(number: int) -> str | None:
        try:
            if number % 5 == 0:
                target = [network, *others][number // 5 % 4]
                answer = sender.deployVirtualMachine(name=f"{how}{number}", networkids=target["id"], **placement)
            else:
                port = (20000 if how == "kill" else 30000) + number
                answer = sender.createFirewallRule(ipaddressid=public, protocol="tcp", startport=port, endport=port)
        except (CloudStackApiException, OSError):
            return None  # the control plane was gone already
        job: str = answer["jobid"]
        return job

    with ThreadPoolExecutor(16) as pool:
        futures = [pool.submit(submit, number) for number in range(50)]
        wait_for(lambda: sum(future.done() for future in futures) >= 30, 30, "some jobs")
        cloud.kill() if how == "kill" else cloud.stop()
        submitted = [job for future in futures if (job := future.result()) is not None]
    pending = cloud.rows("SELECT count(*) FROM async_job WHERE status = 0")[0][0]
    print(f"{len(submitted)} jobs were accepted, {pending} were pending at its end")
    assert pending > 0, "its end came too late to test anything"
    assert serves(cloud, network)
    cloud.start()
    wait_for(lambda: set(cloud.jobs(submitted).values()) <= {1, 2}, 120, "every job to end", interval=0.5)
    assert cloud.rows("SELECT count(*) FROM async_job WHERE status = 0") == [(0,)]
    failed = [
        sender.queryAsyncJobResult(jobid=job)["jobresult"]
        for job, status in cloud.jobs(submitted).items()
        if status == 2
    ]
    assert failed == [], failed
    assert serves(cloud, network)
    guests = cloud.rows(f"SELECT id, state FROM vm WHERE name LIKE '{how}%' AND removed IS NULL")
    assert {state for _, state in guests} == {"Running"}
    leased = [cloud.address(id, 60) for id, _ in guests]
    assert all(leased)
    twice = "SELECT network_id, address FROM nic GROUP BY network_id, address HAVING count(*) > 1"
    assert cloud.rows(twice) == []
    assert cloud.rows("SELECT control_address FROM appliance GROUP BY control_address HAVING count(*) > 1") == []
    for router in cloud.admin.listRouters(listall=True)["router"]:
        assert router["state"] == "Running"
    # as many routers run as there are in the tables: no machine was left behind
    running = {instance.id for instance in cloud.instances.instances() if instance.kind == "appliance"}
    assert running == {id for (id,) in cloud.rows("SELECT id FROM appliance WHERE removed IS NULL")}
