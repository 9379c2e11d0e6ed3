from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from appliance.schema import traffic as metered
from appliance.schema.status import Problem, Repair
from controlplane import jobs
from controlplane.api.command import Response, Success
from controlplane.convergence.desired import desire, desire_network
from controlplane.convergence.reconciler import Reconciler, RefusedError, WaitError
from controlplane.core import Stopping
from controlplane.network import firewall
from controlplane.network.addresses import source_nat_address
from controlplane.network.ports import Ports, Traffic
from controlplane.store.models import Appliance, AsyncJob, FirewallRule, PublicIp, TrafficSample, VlanIpRange, Vm
from tests.unit.controlplane.fleet import PACE, Fleet
from tests.wait import wait_for


@pytest.fixture
def fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fleet]:
    fleet = Fleet(tmp_path, monkeypatch)
    yield fleet
    fleet.close()


@pytest.fixture(autouse=True)
def reversal(monkeypatch: pytest.MonkeyPatch) -> None:
    def activate(session: Session, job: AsyncJob, *, rule_id: str) -> Response:
        session.get_one(FirewallRule, rule_id).state = "Active"
        return Success()

    def take_back(session: Session, job: AsyncJob, *, rule_id: str) -> None:
        session.delete(session.get_one(FirewallRule, rule_id))

    monkeypatch.setitem(jobs._completions, "test.rule", activate)
    monkeypatch.setitem(jobs._reversals, "test.rule", take_back)


def add_rule(fleet: Fleet, router_id: str, port: int) -> tuple[str, str]:
    """What createFirewallRule does: a rule, a job and a generation in one transaction; ids of job and rule."""
    with fleet.database.transaction() as session:
        network = fleet.network_of(session, router_id)
        address = source_nat_address(session, network.id)
        assert address is not None
        traffic = Traffic("tcp", Ports(port, port))
        rule = firewall.create_ingress(session, address, traffic, [])
        target = desire_network(session, network.id)
        completion = {"name": "test.rule", "arguments": {"rule_id": rule.id}}
        job = fleet.job(session, target, instance_id=rule.id, completion=completion)
        rule_id = rule.id
    fleet.reconciler.wake(router_id)
    return job, rule_id


def ended(fleet: Fleet, job_id: str) -> AsyncJob:
    def status() -> bool:
        job: AsyncJob = fleet.read(AsyncJob, job_id)
        return job.status != 0

    wait_for(status, 5, f"job {job_id} to end")
    job: AsyncJob = fleet.read(AsyncJob, job_id)
    return job


def refuses_port(port: int, *, named: bool) -> Any:
    def judge(document: dict[str, Any]) -> Sequence[Problem]:
        for index, rule in enumerate(document["state"]["firewall"]["ingress"]):
            if rule["ports"]["first"] == port:
                field = f"firewall.ingress.{index}.ports" if named else ""
                return [Problem(stage="check", service="firewall", field=field, message=f"port {port} is evil")]
        return []

    return judge


def test_a_change_is_pushed_and_ends_its_job(fleet: Fleet) -> None:
    router_id, agent = fleet.router()
    fleet.reconciler.start()
    job, rule = add_rule(fleet, router_id, 80)
    assert ended(fleet, job).status == jobs.SUCCEEDED
    assert fleet.read(FirewallRule, rule).state == "Active"
    router = fleet.read(Appliance, router_id)
    assert router.observed_generation == router.desired_generation == agent.generation == 2
    assert agent.pushed[-1]["state"]["firewall"]["ingress"][0]["id"] == rule


def test_many_changes_become_few_pushes(fleet: Fleet) -> None:
    router_id, agent = fleet.router()
    fleet.reconciler.start()
    wait_for(lambda: agent.generation == 1, 5, "the first push")
    agent.gate.clear()
    made = [add_rule(fleet, router_id, 1000 + number) for number in range(20)]
    agent.gate.set()
    assert all(ended(fleet, job).status == jobs.SUCCEEDED for job, _ in made)
    # one that was under way when the others came, and one for all the others
    assert len(agent.pushed) <= 3
    assert len(agent.pushed[-1]["state"]["firewall"]["ingress"]) == 20


def test_an_unreachable_appliance_delays_the_job_which_says_why(fleet: Fleet) -> None:
    router_id, agent = fleet.router()
    agent.reachable = False
    fleet.hypervisor.running[router_id] = None  # type: ignore[assignment]
    fleet.reconciler.start()
    job, _ = add_rule(fleet, router_id, 80)
    wait_for(lambda: fleet.read(AsyncJob, job).progress, 5, "the reason")
    progress = fleet.read(AsyncJob, job).progress
    assert "does not answer" in progress
    assert "next try in" in progress
    wait_for(lambda: fleet.read(Appliance, router_id).healthy is False, 5, "the alarm")
    wait_for(lambda: agent.calls > 5, 5, "more tries")
    assert len(fleet.events("ROUTER.ALERT")) == 1
    agent.reachable = True
    done = ended(fleet, job)
    assert (done.status, done.progress) == (jobs.SUCCEEDED, None)
    wait_for(lambda: fleet.read(Appliance, router_id).healthy, 5, "its health")
    assert any("passes" in text for text in fleet.events("ROUTER.HEALTH.CHECKS"))


def test_a_machine_that_is_gone_is_started_again(fleet: Fleet) -> None:
    router_id, agent = fleet.router()
    agent.reachable = False
    fleet.reconciler.start()
    wait_for(lambda: router_id in fleet.hypervisor.running, 5, "the machine")
    agent.reachable = True
    wait_for(lambda: agent.generation == 1, 5, "its document")


@pytest.mark.parametrize("at_once", [True, False])
def test_a_bad_rule_is_failed_and_taken_back_and_the_others_go_through(fleet: Fleet, at_once: bool) -> None:
    router_id, agent = fleet.router()
    fleet.reconciler.start()
    wait_for(lambda: agent.generation == 1, 5, "the first push")
    agent.at_once, agent.judge = at_once, refuses_port(666, named=True)
    agent.gate.clear()
    good, _ = add_rule(fleet, router_id, 80)
    bad, bad_rule = add_rule(fleet, router_id, 666)
    also_good, _ = add_rule(fleet, router_id, 81)
    agent.gate.set()
    assert ended(fleet, good).status == jobs.SUCCEEDED
    assert ended(fleet, also_good).status == jobs.SUCCEEDED
    failed = ended(fleet, bad)
    assert failed.status == jobs.FAILED
    assert failed.result is not None
    assert "port 666 is evil" in failed.result["errortext"]
    with fleet.database.reading() as session:
        assert session.get(FirewallRule, bad_rule) is None
    later, _ = add_rule(fleet, router_id, 82)
    assert ended(fleet, later).status == jobs.SUCCEEDED


def test_a_refusal_that_names_nobody_fails_who_waits_after_some_tries(fleet: Fleet) -> None:
    router_id, agent = fleet.router()
    fleet.reconciler.start()
    wait_for(lambda: agent.generation == 1, 5, "the first push")
    agent.at_once, agent.judge = False, refuses_port(666, named=False)
    job, _ = add_rule(fleet, router_id, 666)
    assert ended(fleet, job).status == jobs.FAILED
    tries = [document for document in agent.pushed if document["generation"] == 2]
    assert len(tries) == 3
    later, _ = add_rule(fleet, router_id, 80)
    assert ended(fleet, later).status == jobs.SUCCEEDED


def test_a_refusal_that_passes_costs_nobody_the_job(fleet: Fleet) -> None:
    router_id, agent = fleet.router()
    fleet.reconciler.start()
    wait_for(lambda: agent.generation == 1, 5, "the first push")
    tries = []

    def once(document: dict[str, Any]) -> Sequence[Problem]:
        tries.append(document)
        return [Problem(stage="probe", service="dhcp", message="slow")] if len(tries) == 1 else []

    agent.at_once, agent.judge = False, once
    job, _ = add_rule(fleet, router_id, 80)
    assert ended(fleet, job).status == jobs.SUCCEEDED
    assert len(tries) == 2


def test_a_completion_that_fails_ends_its_own_job_only(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(session: Session, job: AsyncJob) -> Response:
        raise RuntimeError("oops")

    monkeypatch.setitem(jobs._completions, "test.broken", fails)
    router_id, _ = fleet.router()
    with fleet.database.transaction() as session:
        target = (router_id, desire(session, router_id))
        broken = fleet.job(session, target, completion={"name": "test.broken", "arguments": {}})
        fine = fleet.job(session, target)
    fleet.reconciler.start()
    assert ended(fleet, fine).status == jobs.SUCCEEDED
    assert ended(fleet, broken).status == jobs.FAILED


def test_a_rebuilt_appliance_gets_everything_again(fleet: Fleet) -> None:
    router_id, agent = fleet.router()
    fleet.reconciler.start()
    job, _ = add_rule(fleet, router_id, 80)
    ended(fleet, job)
    agent.generation, agent.pushed = 0, []
    wait_for(lambda: agent.generation == 2, 5, "the document")
    assert len(agent.pushed[-1]["state"]["firewall"]["ingress"]) == 1


def test_tables_older_than_the_appliance_catch_up(fleet: Fleet) -> None:
    router_id, agent = fleet.router()
    agent.generation = 40
    fleet.reconciler.start()
    wait_for(lambda: agent.generation > 40, 5, "a newer generation")
    wait_for(lambda: fleet.read(Appliance, router_id).observed_generation == agent.generation, 5, "the tables")


def test_work_left_by_a_crash_is_found_without_being_told(fleet: Fleet) -> None:
    router_id, agent = fleet.router()
    fleet.reconciler.start()
    wait_for(lambda: agent.generation == 1, 5, "the first push")
    # a commit whose wake() never came
    with fleet.database.transaction() as session:
        job = fleet.job(session, (router_id, desire(session, router_id)))
    assert ended(fleet, job).status == jobs.SUCCEEDED


def test_repairs_become_events_once(fleet: Fleet) -> None:
    _, agent = fleet.router()
    fleet.reconciler.start()
    agent.repairs = (Repair(number=1, time=1.0, service="netfilter", reason="the ruleset was flushed"),)
    wait_for(lambda: fleet.events("ROUTER.REPAIR"), 5, "the event")
    agent.repairs += (Repair(number=2, time=2.0, service="dhcp", reason="dnsmasq died", error="no binary"),)
    wait_for(lambda: len(fleet.events("ROUTER.REPAIR")) == 2, 5, "the second event")
    calls = agent.calls
    wait_for(lambda: agent.calls > calls + 4, 5, "more polls")
    first, second = fleet.events("ROUTER.REPAIR")
    assert "the ruleset was flushed: repaired" in first
    assert "could not be repaired: no binary" in second


def test_health_is_kept_and_changes_are_events(fleet: Fleet) -> None:
    router_id, agent = fleet.router()
    fleet.reconciler.start()
    wait_for(lambda: fleet.read(Appliance, router_id).healthy, 5, "health")
    agent.healthy = False
    wait_for(lambda: fleet.read(Appliance, router_id).healthy is False, 5, "trouble")
    [event] = fleet.events("ROUTER.HEALTH.CHECKS")
    assert "dhcp: port 53 does not answer" in event
    assert fleet.read(Appliance, router_id).health["dhcp"]["healthy"] is False


def test_a_fetched_password_is_forgotten(fleet: Fleet) -> None:
    router_id, agent = fleet.router()
    with fleet.database.transaction() as session:
        vm = fleet.in_session(session).vm(fleet.network_of(session, router_id))
        vm.password_id, vm.password = "password-1", fleet.core.secrets.seal("hunter2")
    fleet.reconciler.start()
    wait_for(lambda: agent.pushed, 5, "the first push")
    assert agent.pushed[-1]["state"]["passwords"]["pending"][0]["password"] == "hunter2"
    agent.reports = {"password": {"fetched": ["password-1"]}}
    wait_for(lambda: fleet.read(Vm, vm.id).password is None, 5, "the password to go")
    wait_for(lambda: not agent.pushed[-1]["state"]["passwords"]["pending"], 5, "a document without it")


def test_an_address_on_another_vlan_brings_a_nic(fleet: Fleet) -> None:
    router_id, agent = fleet.router()
    fleet.reconciler.start()
    wait_for(lambda: agent.generation == 1, 5, "the first push")
    with fleet.database.transaction() as session:
        rows, network = fleet.in_session(session), fleet.network_of(session, router_id)
        other = rows.add(
            VlanIpRange(
                zone_id=rows.zone.id,
                physical_network_id=rows.physical.id,
                vlan="vlan://300",
                gateway="192.0.2.1",
                netmask="255.255.255.0",
                start_ip="192.0.2.10",
                end_ip="192.0.2.20",
            )
        )
        rows.add(
            PublicIp(
                address="192.0.2.10",
                vlan_ip_range_id=other.id,
                zone_id=rows.zone.id,
                account_id=rows.account.id,
                network_id=network.id,
            )
        )
        desire(session, router_id)
    fleet.reconciler.wake(router_id)
    wait_for(lambda: agent.generation == 2, 5, "the second push")
    nic = agent.pushed[-1]["state"]["interfaces"]["interfaces"][3]
    assert (nic["name"], nic["addresses"], nic["gateway"]) == ("eth3", ["192.0.2.10/24"], "192.0.2.1")
    segment = f"public-{fleet.rows.physical.id}-300"
    assert [(id, plug.segment) for id, plug in fleet.hypervisor.attached if plug.mac == nic["mac"]] == [
        (router_id, segment)
    ]


def test_an_ended_certificate_is_renewed(fleet: Fleet) -> None:
    _, agent = fleet.router()
    agent.expired = True
    fleet.reconciler.start()
    wait_for(lambda: agent.generation == 1, 5, "the push")
    assert agent.renewals == 1


def test_a_stopped_router_is_left_alone(fleet: Fleet) -> None:
    router_id, agent = fleet.router()
    with fleet.database.transaction() as session:
        router = session.get_one(Appliance, router_id)
        router.state = router.desired_state = "Stopped"
        assert desire_network(session, str(router.network_id)) is None
    fleet.reconciler.start()
    other_id, other = fleet.router()
    fleet.reconciler.wake(other_id)
    wait_for(lambda: other.generation == 1, 5, "the other router")
    assert agent.calls == 0


def test_waiting_for_a_generation(fleet: Fleet) -> None:
    router_id, agent = fleet.router()
    agent.gate.clear()
    fleet.reconciler.start()
    with pytest.raises(WaitError):
        fleet.reconciler.wait(router_id, 1, timeout=0.05)
    agent.gate.set()
    fleet.reconciler.wait(router_id, 1, timeout=5)
    with pytest.raises(WaitError, match="removed"):
        fleet.reconciler.wait("no-such-router", 1, timeout=5)


def test_who_waits_hears_of_a_refusal_of_its_own_entry_only(fleet: Fleet) -> None:
    router_id, agent = fleet.router()
    fleet.reconciler.start()
    fleet.reconciler.wait(router_id, 1, timeout=5)
    mine = "11111111-2222-3333-4444-555555555555"
    agent.judge = lambda document: [Problem(stage="parse", message=f"{mine}: the name is bad")]
    with fleet.database.transaction() as session:
        generation = desire(session, router_id)
    heard: list[str] = []
    with pytest.raises(RefusedError, match="the name is bad"):
        fleet.reconciler.wait(router_id, generation, timeout=5, ids=frozenset({mine}), progress=heard.append)
    agent.judge = lambda document: []
    fleet.reconciler.wait(router_id, generation, timeout=5, ids=frozenset({"another"}))


def test_stopping_interrupts_who_waits(fleet: Fleet) -> None:
    router_id, agent = fleet.router()
    agent.reachable = False
    fleet.hypervisor.running[router_id] = None  # type: ignore[assignment]
    fleet.reconciler.start()
    caught: list[BaseException] = []

    def wait() -> None:
        try:
            fleet.reconciler.wait(router_id, 1, timeout=60)
        except Stopping as stopping:
            caught.append(stopping)

    thread = threading.Thread(target=wait)
    thread.start()
    fleet.reconciler.stop()
    thread.join(5)
    assert len(caught) == 1


def test_the_next_process_goes_on(fleet: Fleet) -> None:
    router_id, agent = fleet.router()
    agent.reachable = False
    fleet.hypervisor.running[router_id] = None  # type: ignore[assignment]
    fleet.reconciler.start()
    job, _ = add_rule(fleet, router_id, 80)
    fleet.reconciler.stop()
    agent.reachable = True
    fleet.reconciler = Reconciler(fleet.core, PACE)
    fleet.reconciler.start()
    assert ended(fleet, job).status == jobs.SUCCEEDED


def test_traffic_is_collected_at_its_interval(fleet: Fleet) -> None:
    router_id, agent = fleet.router()
    with fleet.database.transaction() as session:
        network = fleet.network_of(session, router_id)
        address = session.scalars(select(PublicIp).where(PublicIp.network_id == network.id)).one().id
        fleet.core.configuration.set(session, "router.stats.interval", "1")

    def counted(received: int) -> metered.Traffic:
        counter = metered.Counter(id=address, kind="public", address="198.51.100.10", received=received, sent=1)
        return metered.Traffic(epoch="a", taken=time.time(), counters=(counter,))

    def known() -> int:
        with fleet.database.reading() as session:
            return sum(session.scalars(select(TrafficSample.received)))

    agent.counted = counted(100)
    fleet.reconciler.start()
    wait_for(lambda: known() == 100, 5, "the first reading")
    agent.counted = counted(250)
    wait_for(lambda: known() == 250, 5, "the second")
    calls = agent.calls
    with fleet.database.transaction() as session:
        fleet.core.configuration.set(session, "router.stats.interval", "0")
    wait_for(lambda: agent.calls > calls + 10, 5, "some more looks")
    agent.counted = counted(999)
    calls = agent.calls
    wait_for(lambda: agent.calls > calls + 10, 5, "some more looks")
    assert known() == 250
