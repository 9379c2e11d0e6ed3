"""Rates of running VMs' NICs follow offerings and settings, whoever changed them and whatever crashed meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from controlplane.compute import rates
from controlplane.hypervisors.base import HypervisorError
from controlplane.network.rates import NETWORK_RATE, VM_RATE
from controlplane.store.models import Nic, ServiceOffering, Vm
from controlplane.workflows import vms
from controlplane.workflows.flow import Flow, Locks
from tests.unit.controlplane.fleet import Fleet


@pytest.fixture
def fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fleet]:
    made = Fleet(tmp_path, monkeypatch)
    made.reconciler.start()
    yield made
    made.close()


@pytest.fixture
def vm_id(fleet: Fleet) -> str:
    """A running VM with a default NIC and another one."""
    with fleet.database.transaction() as session:
        rows = fleet.in_session(session)
        vm = rows.vm(rows.network(name="first"), rows.network(name="second"))
        vm.state = "Starting"
    vms.deploy_vm(Flow(fleet.core, fleet.reconciler, Locks(), None, lambda _name, function: function()), vm.id)
    return vm.id


def told(fleet: Fleet, vm_id: str) -> list[int | None]:
    """What the tables say that the hypervisor was told, the default NIC first."""
    with fleet.database.reading() as session:
        return [nic.rate_mbit for nic in session.get_one(Vm, vm_id).nics]


def test_a_vm_starts_with_its_rates(fleet: Fleet, vm_id: str) -> None:
    assert [nic.rate_mbit for nic in fleet.hypervisor.running[vm_id].nics] == [200, 200]
    assert told(fleet, vm_id) == [200, 200]
    assert rates.follow(fleet.core) == []
    assert fleet.hypervisor.rates == {}


def test_settings_offerings_and_the_default_nic(fleet: Fleet, vm_id: str) -> None:
    with fleet.database.transaction() as session:
        fleet.core.configuration.set(session, NETWORK_RATE, "50")
        fleet.core.configuration.set(session, VM_RATE, "30")
    assert rates.follow(fleet.core) == []
    assert told(fleet, vm_id) == [30, 50]
    assert sorted(fleet.hypervisor.rates.values()) == [30, 50]
    with fleet.database.transaction() as session:
        vm = session.get_one(Vm, vm_id)
        session.get_one(ServiceOffering, vm.service_offering_id).network_rate = 0
        for nic in vm.nics:
            nic.is_default = not nic.is_default
    rates.follow(fleet.core)
    assert told(fleet, vm_id) == [50, 0]


def test_what_the_hypervisor_could_not_do_is_tried_again(
    fleet: Fleet, vm_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with fleet.database.transaction() as session:
        fleet.core.configuration.set(session, VM_RATE, "30")

    def fail(instance_id: str, mac: str, rate_mbit: int) -> None:
        raise HypervisorError("the host is busy")

    with monkeypatch.context() as patched:
        patched.setattr(fleet.hypervisor, "set_rate", fail)
        [problem] = rates.follow(fleet.core)
        assert "the host is busy" in problem
    assert told(fleet, vm_id) == [200, 200]
    assert rates.follow(fleet.core) == []
    assert told(fleet, vm_id) == [30, 200]


def test_stopped_vms_are_left_alone(fleet: Fleet, vm_id: str) -> None:
    with fleet.database.transaction() as session:
        session.get_one(Vm, vm_id).state = "Stopped"
        fleet.core.configuration.set(session, VM_RATE, "30")
    assert rates.follow(fleet.core) == []
    assert told(fleet, vm_id) == [200, 200]
    with fleet.database.reading() as session:
        assert session.query(Nic).count() == 2
