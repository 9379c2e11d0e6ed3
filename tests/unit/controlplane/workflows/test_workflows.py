"""Workflows on fake agents and a fake hypervisor, without DBOS: what they leave behind, well ended or not."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import select

from appliance.schema.status import Problem
from controlplane.convergence.desired import desire
from controlplane.convergence.reconciler import Reconciler
from controlplane.core import Stopping
from controlplane.errors import ApiError
from controlplane.housekeeping import Housekeeping
from controlplane.hypervisors.base import HypervisorError
from controlplane.network import networks as network_rows
from controlplane.store.models import Appliance, AsyncJob, Network, Nic, PublicIp, Vm
from controlplane.workflows import networks, routers, vms
from controlplane.workflows.flow import Flow, Locks
from tests.unit.controlplane.fleet import PACE, FakeAgent, Fleet
from tests.unit.controlplane.workflows.conftest import Killed, Recorder
from tests.wait import wait_for


def new_vm(fleet: Fleet, network_id: str | None = None) -> tuple[str, str]:
    """The rows of deployVirtualMachine; ids of VM and network."""
    with fleet.database.transaction() as session:
        rows = fleet.in_session(session)
        network = session.get_one(Network, network_id) if network_id else rows.network()
        vm = rows.vm(network)
        vm.state = "Starting"
        return vm.id, network.id


def router_of(fleet: Fleet, network_id: str) -> Appliance | None:
    with fleet.database.reading() as session:
        statement = select(Appliance).where(Appliance.network_id == network_id, Appliance.removed.is_(None))
        return session.scalars(statement).one_or_none()


def deployed(fleet: Fleet, flow: Flow) -> tuple[str, str, str]:
    """A running VM; ids of VM, network and router."""
    vm_id, network_id = new_vm(fleet)
    vms.deploy_vm(flow, vm_id)
    router = router_of(fleet, network_id)
    assert router is not None
    return vm_id, network_id, router.id


def test_the_first_guest_brings_a_router_and_a_source_nat_address(fleet: Fleet, flow: Flow) -> None:
    vm_id, network_id, router_id = deployed(fleet, flow)
    router = fleet.read(Appliance, router_id)
    assert (router.state, router.name, router.control_address) == ("Running", "r-1-VM", "169.254.1.1")
    assert [nic["role"] for nic in router.nics] == ["guest", "control", "public"]
    assert fleet.read(Network, network_id).state == "Implemented"
    assert fleet.read(Vm, vm_id).state == "Running"
    assert set(fleet.hypervisor.running) == {router_id, vm_id}
    # the router knew the guest before the guest booted
    [document] = fleet.agents[router_id].pushed
    assert [host["name"] for host in document["state"]["dhcp"]["hosts"]] == [fleet.read(Vm, vm_id).name]
    assert document["state"]["nat"]["source"][0]["interface"] == "eth0"


def test_the_second_guest_takes_one_push(fleet: Fleet, flow: Flow) -> None:
    _, network_id, router_id = deployed(fleet, flow)
    second, _ = new_vm(fleet, network_id)
    vms.deploy_vm(Flow(fleet.core, fleet.reconciler, flow.locks, None, Recorder().run_step), second)
    assert len(fleet.agents[router_id].pushed) == 2
    assert fleet.read(Vm, second).state == "Running"


@pytest.mark.parametrize("step", ["look", "network", "start"])
def test_a_deployment_goes_on_after_a_crash_in_any_step(
    fleet: Fleet, flow: Flow, recorder: Recorder, step: str
) -> None:
    vm_id, network_id = new_vm(fleet)
    recorder.kill_in = step
    with pytest.raises(Killed):
        vms.deploy_vm(flow, vm_id)
    recorder.kill_in = None
    recorder.again()
    vms.deploy_vm(flow, vm_id)
    router = router_of(fleet, network_id)
    assert router is not None
    assert set(fleet.hypervisor.running) == {router.id, vm_id}
    assert fleet.read(Vm, vm_id).state == "Running"
    with fleet.database.reading() as session:
        assert len(session.scalars(select(PublicIp).where(PublicIp.network_id == network_id)).all()) == 1


def test_stopping_the_control_plane_fails_no_deployment(fleet: Fleet, flow: Flow, recorder: Recorder) -> None:
    vm_id, network_id = new_vm(fleet)

    def closed(instance_id: str) -> None:
        fleet.reconciler.stop()
        raise HypervisorError("the hypervisor is not open")

    fleet.hypervisor.fail = closed
    with pytest.raises(Stopping):
        vms.deploy_vm(flow, vm_id)
    assert [name for name, _ in recorder.ended] == ["look"]
    # the next process
    fleet.hypervisor.fail = lambda instance_id: None
    fleet.reconciler = Reconciler(fleet.core, PACE)
    fleet.reconciler.start()
    recorder.again()
    vms.deploy_vm(Flow(fleet.core, fleet.reconciler, Locks(), None, recorder.run_step), vm_id)
    assert fleet.read(Vm, vm_id).state == "Running"
    assert fleet.read(Network, network_id).state == "Implemented"


def test_a_guest_that_does_not_start_gives_its_address_back(fleet: Fleet, flow: Flow) -> None:
    vm_id, network_id = new_vm(fleet)

    def fail(instance_id: str) -> None:
        if instance_id == vm_id:
            raise HypervisorError("no room on the host")

    fleet.hypervisor.fail = fail
    with pytest.raises(ApiError, match="no room on the host"):
        vms.deploy_vm(flow, vm_id)
    assert fleet.read(Vm, vm_id).state == "Error"
    with fleet.database.reading() as session:
        assert session.scalars(select(Nic).where(Nic.vm_id == vm_id)).all() == []
    assert vm_id not in fleet.hypervisor.running
    # the network is in service, and the collector will find it unused
    network = fleet.read(Network, network_id)
    assert network.state == "Implemented"
    assert network.idle_since is not None


def test_a_router_that_does_not_start_leaves_nothing_behind(fleet: Fleet, flow: Flow) -> None:
    vm_id, network_id = new_vm(fleet)

    def fail(instance_id: str) -> None:
        raise HypervisorError("no memory")

    fleet.hypervisor.fail = fail
    with pytest.raises(ApiError, match="no memory"):
        vms.deploy_vm(flow, vm_id)
    assert router_of(fleet, network_id) is None
    assert fleet.read(Network, network_id).state == "Allocated"
    assert fleet.hypervisor.running == {}
    # the next guest succeeds
    fleet.hypervisor.fail = lambda instance_id: None
    other, _ = new_vm(fleet, network_id)
    vms.deploy_vm(Flow(fleet.core, fleet.reconciler, flow.locks, None, Recorder().run_step), other)
    assert fleet.read(Vm, other).state == "Running"


def test_a_guest_that_the_router_refuses_fails_alone(fleet: Fleet, flow: Flow) -> None:
    first, network_id, router_id = deployed(fleet, flow)
    agent = fleet.agents[router_id]

    def judge(document: dict[str, Any]) -> list[Problem]:
        hosts = document["state"]["dhcp"]["hosts"]
        return [Problem(stage="parse", message=f"{hosts[-1]['id']}: bad")] if len(hosts) > 1 else []

    agent.judge = judge
    second, _ = new_vm(fleet, network_id)
    # the entries of a document are in the order of their ids
    with fleet.database.reading() as session:
        nics = sorted(session.scalars(select(Nic.id).where(Nic.network_id == network_id)))
        bad = session.scalars(select(Nic.id).where(Nic.vm_id == second)).one()
    agent.judge = lambda document: (
        [Problem(stage="parse", message=f"{bad}: bad")] if len(document["state"]["dhcp"]["hosts"]) > 1 else []
    )
    assert len(nics) == 2
    with pytest.raises(ApiError, match="bad"):
        vms.deploy_vm(Flow(fleet.core, fleet.reconciler, flow.locks, None, Recorder().run_step), second)
    assert fleet.read(Vm, second).state == "Error"
    assert fleet.read(Vm, first).state == "Running"
    wait_for(
        lambda: (
            fleet.read(Appliance, router_id).observed_generation == fleet.read(Appliance, router_id).desired_generation
        ),
        5,
        "the router to go on without it",
    )


def test_stop_start_destroy_and_expunge(fleet: Fleet, flow: Flow, recorder: Recorder) -> None:
    vm_id, network_id, router_id = deployed(fleet, flow)
    address = fleet.agents[router_id].pushed[-1]["state"]["dhcp"]["hosts"][0]["address"]
    vms.stop_vm(flow, vm_id)
    assert fleet.read(Vm, vm_id).state == "Stopped"
    assert fleet.read(Network, network_id).idle_since is not None
    assert fleet.hypervisor.power(vm_id) == "stopped"
    vms.start_vm(flow, vm_id)
    assert fleet.read(Vm, vm_id).state == "Running"
    assert fleet.read(Network, network_id).idle_since is None
    assert fleet.agents[router_id].pushed[-1]["state"]["dhcp"]["hosts"][0]["address"] == address
    vms.destroy_vm(flow, vm_id)
    assert fleet.read(Vm, vm_id).state == "Destroyed"
    assert fleet.read(Vm, vm_id).destroyed is not None
    vms.destroy_vm(flow, vm_id, expunge=True)
    assert fleet.read(Vm, vm_id).removed is not None
    assert fleet.hypervisor.power(vm_id) == "absent"
    wait_for(lambda: not fleet.agents[router_id].pushed[-1]["state"]["dhcp"]["hosts"], 5, "the router to forget it")


def _another(fleet: Fleet, flow: Flow) -> Flow:
    """The flow of a second workflow at the same time."""
    return Flow(fleet.core, fleet.reconciler, flow.locks, None, Recorder().run_step)


def test_a_destroyed_guest_is_not_started_by_a_workflow_that_was_under_way(fleet: Fleet, flow: Flow) -> None:
    vm_id, *_ = deployed(fleet, flow)
    # a reboot whose guest is down when it is destroyed
    fleet.hypervisor.stop(vm_id)
    vms.destroy_vm(_another(fleet, flow), vm_id)
    for workflow in (vms.reboot_vm, vms.start_vm):
        with pytest.raises(ApiError, match="destroyed meanwhile"):
            workflow(_another(fleet, flow), vm_id)
        assert fleet.hypervisor.power(vm_id) != "running"
        assert fleet.read(Vm, vm_id).state == "Destroyed"
    # nor is it a stopped one again
    vms.stop_vm(_another(fleet, flow), vm_id)
    assert fleet.read(Vm, vm_id).state == "Destroyed"


def test_a_guest_that_is_expunged_while_it_starts_leaves_no_machine(fleet: Fleet, flow: Flow) -> None:
    vm_id, *_ = deployed(fleet, flow)
    vms.stop_vm(flow, vm_id)
    destroying = threading.Thread(target=vms.destroy_vm, args=(_another(fleet, flow), vm_id, True))

    def fail(instance_id: str) -> None:
        destroying.start()
        # as far as it gets; it must wait for the start
        destroying.join(0.3)

    fleet.hypervisor.fail = fail
    vms.start_vm(_another(fleet, flow), vm_id)
    destroying.join(5)
    assert fleet.hypervisor.power(vm_id) == "absent"
    assert fleet.read(Vm, vm_id).removed is not None


def test_a_recovered_guest_is_not_expunged(fleet: Fleet, flow: Flow) -> None:
    vm_id, *_ = deployed(fleet, flow)
    vms.stop_vm(flow, vm_id)
    with pytest.raises(ApiError, match="recovered"):
        vms.expunge_vm(flow, vm_id)
    assert fleet.read(Vm, vm_id).removed is None
    assert fleet.hypervisor.power(vm_id) == "stopped"


def test_a_guest_that_cannot_be_taken_away_can_be_destroyed_later(
    fleet: Fleet, flow: Flow, monkeypatch: pytest.MonkeyPatch
) -> None:
    vm_id, _ = new_vm(fleet)

    def stuck(instance_id: str) -> None:
        if instance_id == vm_id:
            raise HypervisorError("the host does not answer")

    with monkeypatch.context() as patched:
        fleet.hypervisor.fail = stuck
        patched.setattr(fleet.hypervisor, "destroy", stuck)
        with pytest.raises(ApiError, match="does not answer"):
            vms.deploy_vm(flow, vm_id)
    assert fleet.read(Vm, vm_id).state == "Error"
    vms.destroy_vm(_another(fleet, flow), vm_id, expunge=True)
    assert fleet.read(Vm, vm_id).removed is not None


def test_one_guest_that_cannot_be_expunged_does_not_keep_the_others(
    fleet: Fleet, flow: Flow, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, network_id, _ = deployed(fleet, flow)
    second, _ = new_vm(fleet, network_id)
    vms.deploy_vm(_another(fleet, flow), second)
    for vm_id in (first, second):
        vms.destroy_vm(_another(fleet, flow), vm_id)
        with fleet.database.transaction() as session:
            session.get_one(Vm, vm_id).destroyed = session.get_one(Vm, vm_id).created.replace(year=2020)

    def stuck(instance_id: str) -> None:
        raise HypervisorError("the host does not answer")

    house = Housekeeping(fleet.core, fleet.reconciler, flow.locks, lambda *_: None)
    destroy = fleet.hypervisor.destroy
    with monkeypatch.context() as patched:
        patched.setattr(fleet.hypervisor, "destroy", lambda id: stuck(id) if id == first else destroy(id))
        house.expunge()
    assert fleet.read(Vm, second).removed is not None
    house.expunge()
    assert fleet.read(Vm, first).removed is not None


def test_restart_with_cleanup_builds_another_router_from_the_same_rows(fleet: Fleet, flow: Flow) -> None:
    _, network_id, before = deployed(fleet, flow)
    with fleet.database.transaction() as session:
        waiting = fleet.job(session, (before, desire(session, before)))
    # the job is left to the successor
    networks.restart_network(flow, network_id, cleanup=True)
    after = router_of(fleet, network_id)
    assert after is not None
    assert after.id != before
    assert before not in fleet.hypervisor.running
    assert fleet.read(Appliance, before).removed is not None
    first, second = (fleet.agents[id].pushed[-1]["state"] for id in (before, after.id))
    assert first["nat"] == second["nat"]
    assert first["dhcp"] == second["dhcp"]
    assert fleet.read(AsyncJob, waiting).status == 1
    assert fleet.read(Network, network_id).state == "Implemented"


def test_a_restart_that_fails_leaves_no_job_waiting(fleet: Fleet, flow: Flow) -> None:
    _, network_id, router_id = deployed(fleet, flow)
    fleet.agents[router_id].gate.clear()
    with fleet.database.transaction() as session:
        waiting = fleet.job(session, (router_id, desire(session, router_id)))

    def fail(instance_id: str) -> None:
        raise HypervisorError("no memory")

    fleet.hypervisor.fail = fail
    with pytest.raises(ApiError, match="no memory"):
        networks.restart_network(flow, network_id, cleanup=True)
    assert fleet.read(AsyncJob, waiting).status == 1
    assert router_of(fleet, network_id) is None or fleet.read(Network, network_id).state == "Implemented"


def test_router_operations(fleet: Fleet, flow: Flow) -> None:
    _, network_id, router_id = deployed(fleet, flow)
    routers.stop_router(flow, router_id)
    assert (fleet.read(Appliance, router_id).state, fleet.hypervisor.power(router_id)) == ("Stopped", "stopped")
    routers.start_router(flow, router_id)
    assert (fleet.read(Appliance, router_id).state, fleet.hypervisor.power(router_id)) == ("Running", "running")
    routers.reboot_router(flow, router_id)
    assert fleet.read(Appliance, router_id).state == "Running"
    routers.destroy_router(flow, router_id)
    assert router_of(fleet, network_id) is None
    # built again on demand
    other, _ = new_vm(fleet, network_id)
    vms.deploy_vm(Flow(fleet.core, fleet.reconciler, flow.locks, None, Recorder().run_step), other)
    router = router_of(fleet, network_id)
    assert router is not None
    assert router.state == "Running"


def test_a_stopped_router_leaves_no_job_waiting(fleet: Fleet, flow: Flow) -> None:
    _, _, router_id = deployed(fleet, flow)
    fleet.agents[router_id].reachable = False
    with fleet.database.transaction() as session:
        waiting = fleet.job(session, (router_id, desire(session, router_id)))
    routers.stop_router(flow, router_id)
    assert fleet.read(AsyncJob, waiting).status == 1


@pytest.mark.parametrize(("workflow", "method"), [(routers.stop_router, "stop"), (routers.destroy_router, "destroy")])
def test_a_router_that_could_not_be_stopped_can_be_started_again(
    fleet: Fleet, flow: Flow, monkeypatch: pytest.MonkeyPatch, workflow: Callable[[Flow, str], None], method: str
) -> None:
    _, _, router_id = deployed(fleet, flow)

    def stuck(instance_id: str, **_: object) -> None:
        raise HypervisorError("the host does not answer")

    with monkeypatch.context() as patched:
        patched.setattr(fleet.hypervisor, method, stuck)
        with pytest.raises(ApiError, match="does not answer"):
            workflow(flow, router_id)
    # startRouter refuses what is neither Stopped, Running nor in Error
    assert fleet.read(Appliance, router_id).state == "Error"
    routers.start_router(_another(fleet, flow), router_id)
    assert fleet.read(Appliance, router_id).state == "Running"


def test_a_network_deleted_while_it_is_implemented_stays_deleted(fleet: Fleet, flow: Flow) -> None:
    with fleet.database.transaction() as session:
        network_id = fleet.in_session(session).network().id

    def delete(instance_id: str) -> None:
        with fleet.database.transaction() as session:
            network_rows.begin_delete(session, session.get_one(Network, network_id))

    fleet.hypervisor.fail = delete
    networks.implement_network(flow, network_id)
    assert fleet.read(Network, network_id).state == "Destroy"


def test_a_network_deleted_while_it_is_collected_stays_deleted(
    fleet: Fleet, flow: Flow, monkeypatch: pytest.MonkeyPatch
) -> None:
    vm_id, network_id, _ = deployed(fleet, flow)
    vms.destroy_vm(flow, vm_id, expunge=True)

    def delete(name: str) -> None:
        with fleet.database.transaction() as session:
            network_rows.begin_delete(session, session.get_one(Network, network_id))

    monkeypatch.setattr(fleet.hypervisor, "remove_segment", delete)
    assert networks.shutdown(flow, network_id)
    assert fleet.read(Network, network_id).state == "Destroy"


def test_deleting_a_network(fleet: Fleet, flow: Flow) -> None:
    vm_id, network_id, _router_id = deployed(fleet, flow)
    vms.destroy_vm(flow, vm_id, expunge=True)
    with fleet.database.transaction() as session:
        network_rows.begin_delete(session, session.get_one(Network, network_id))
    networks.delete_network(flow, network_id)
    assert fleet.read(Network, network_id).removed is not None
    assert fleet.hypervisor.running == {}
    assert f"guest-{network_id}" not in fleet.hypervisor.segments
    with fleet.database.reading() as session:
        assert session.scalars(select(PublicIp)).all() == []


def test_unused_networks_are_collected_and_come_back(fleet: Fleet, flow: Flow) -> None:
    vm_id, network_id, router_id = deployed(fleet, flow)
    house = Housekeeping(fleet.core, fleet.reconciler, flow.locks, lambda *_: None)
    with fleet.database.transaction() as session:
        fleet.core.configuration.set(session, "network.gc.wait", "0")
    house.collect_networks()
    assert fleet.read(Network, network_id).state == "Implemented", "its guest runs"
    vms.stop_vm(flow, vm_id)
    house.collect_networks()
    assert fleet.read(Network, network_id).state == "Allocated"
    assert fleet.hypervisor.power(router_id) == "absent"
    vms.start_vm(flow, vm_id)
    router = router_of(fleet, network_id)
    assert router is not None
    assert router.state == "Running"
    assert fleet.read(Network, network_id).state == "Implemented"
    with fleet.database.reading() as session:
        # the same source NAT address as before
        assert len(session.scalars(select(PublicIp)).all()) == 1


def test_destroyed_vms_are_expunged_in_time(fleet: Fleet, flow: Flow) -> None:
    vm_id, *_ = deployed(fleet, flow)
    vms.destroy_vm(flow, vm_id)
    house = Housekeeping(fleet.core, fleet.reconciler, flow.locks, lambda *_: None)
    house.expunge()
    assert fleet.read(Vm, vm_id).removed is None
    with fleet.database.transaction() as session:
        vm = session.get_one(Vm, vm_id)
        assert vm.destroyed is not None
        vm.destroyed = vm.destroyed.replace(year=2020)
    house.expunge()
    assert fleet.read(Vm, vm_id).removed is not None


def test_a_guest_that_shut_itself_down_is_stopped(fleet: Fleet, flow: Flow) -> None:
    vm_id, network_id, _ = deployed(fleet, flow)
    house = Housekeeping(fleet.core, fleet.reconciler, flow.locks, lambda *_: None)
    house.follow_power()
    assert fleet.read(Vm, vm_id).state == "Running"
    fleet.hypervisor.stop(vm_id)
    house.follow_power()
    assert fleet.read(Vm, vm_id).state == "Stopped"
    assert fleet.read(Network, network_id).idle_since is not None
    assert len(fleet.events("VM.STOP")) == 1


def test_nics_come_and_go(fleet: Fleet, flow: Flow) -> None:
    vm_id, *_ = deployed(fleet, flow)
    with fleet.database.transaction() as session:
        rows = fleet.in_session(session)
        other = rows.network(name="other")
        nic = rows.nic(other)
        # give it to the VM under test
        session.get_one(Vm, nic.vm_id).removed = nic.created
        nic.vm_id, nic.device_id, nic.is_default = vm_id, 1, False
        nic_id, other_id = nic.id, other.id
    vms.add_nic(flow, vm_id, nic_id)
    router = router_of(fleet, other_id)
    assert router is not None
    assert [host["default"] for host in fleet.agents[router.id].pushed[-1]["state"]["dhcp"]["hosts"]] == [False]
    assert [id for id, _ in fleet.hypervisor.attached if id == vm_id] == [vm_id]
    vms.remove_nic(flow, vm_id, nic_id)
    assert [id for id, _ in fleet.hypervisor.attached if id == vm_id] == []
    with fleet.database.reading() as session:
        assert session.get(Nic, nic_id) is None


def test_an_agent_of_a_new_router_may_be_slow(fleet: Fleet, flow: Flow) -> None:
    vm_id, _network_id = new_vm(fleet)

    def boot(instance_id: str) -> None:
        if instance_id != vm_id:
            agent = fleet.agents.setdefault(instance_id, FakeAgent(instance_id))
            agent.reachable = False
            agent.calls = 0

    fleet.hypervisor.fail = boot
    thread = threading.Thread(target=vms.deploy_vm, args=(flow, vm_id))
    thread.start()
    wait_for(lambda: any(agent.calls > 3 for agent in fleet.agents.values()), 3, "some tries")
    for agent in fleet.agents.values():
        agent.reachable = True
    thread.join(5)
    assert fleet.read(Vm, vm_id).state == "Running"
