from __future__ import annotations

import pytest

from appliance.errors import GatehouseError
from controlplane.compute import hosts
from controlplane.compute.hosts import Amount
from controlplane.configuration import Configuration
from controlplane.errors import CapacityError
from controlplane.hypervisors.base import HostFacts
from controlplane.store.models import Appliance, Host, ServiceOffering, Vm
from tests.rows import Rows

CONFIGURATION = Configuration()


@pytest.fixture
def size(rows: Rows) -> ServiceOffering:
    return rows.add(ServiceOffering(name="big", display_text="big", cpu_number=2, cpu_speed=500, memory=1024))


@pytest.fixture
def host(rows: Rows) -> Host:
    """The zone's one host: room for two of the size in memory, four in processors."""
    rows.host.reserves, rows.host.cpus, rows.host.cpu_mhz, rows.host.memory_bytes = True, 4, 1000, 2 << 30
    return rows.host


def another(rows: Rows, **values: object) -> Host:
    there = {"cpus": 4, "cpu_mhz": 1000, "memory_bytes": 8 << 30, "reserves": True} | values
    return rows.add(Host(cluster_id=rows.cluster.id, name="host2", url="fake://host2", **there))


def start(rows: Rows, size: ServiceOffering) -> Vm:
    """A guest that is placed as a workflow does it."""
    vm = rows.vm(rows.network())
    vm.service_offering_id, vm.state = size.id, "Starting"
    hosts.place(rows.session, CONFIGURATION, vm)
    return vm


def test_what_is_promised_is_not_promised_twice(rows: Rows, host: Host, size: ServiceOffering) -> None:
    first, second = start(rows, size), start(rows, size)
    assert {first.host_id, second.host_id} == {host.id}
    assert hosts.promised(rows.session, [host.id]) == {host.id: Amount(2000, 2 << 30)}
    with pytest.raises(CapacityError, match=r"no host of zone z1 has 1000 MHz and 1024 MB left") as refused:
        start(rows, size)
    assert refused.value.code == 533
    first.state = "Stopped"
    assert start(rows, size).host_id == host.id


def test_processors_are_limited_as_well(rows: Rows, host: Host, size: ServiceOffering) -> None:
    host.memory_bytes = 1 << 40
    for _ in range(4):
        start(rows, size)
    with pytest.raises(CapacityError):
        start(rows, size)
    CONFIGURATION.set(rows.session, hosts.CPU_FACTOR, "1.5", "zone", rows.zone.id)
    for _ in range(2):
        start(rows, size)
    with pytest.raises(CapacityError):
        start(rows, size)


def test_memory_may_be_promised_more_than_once(rows: Rows, host: Host, size: ServiceOffering) -> None:
    CONFIGURATION.set(rows.session, hosts.MEMORY_FACTOR, "2")
    for _ in range(4):
        start(rows, size)
    with pytest.raises(CapacityError):
        start(rows, size)


def test_where_instances_share_capacity_is_no_limit(rows: Rows, host: Host, size: ServiceOffering) -> None:
    host.reserves = False
    for _ in range(5):
        start(rows, size)


def test_a_guest_goes_where_most_room_is_and_back_where_it_was(rows: Rows, host: Host, size: ServiceOffering) -> None:
    first = start(rows, size)
    other = another(rows)
    assert start(rows, size).host_id == other.id
    first.state = "Stopped"
    hosts.place(rows.session, CONFIGURATION, first)
    assert first.host_id == host.id
    host.memory_bytes = 1
    hosts.place(rows.session, CONFIGURATION, first)
    assert first.host_id == other.id


def test_what_runs_needs_no_room_for_itself_again(rows: Rows, host: Host, size: ServiceOffering) -> None:
    full = [start(rows, size), start(rows, size)]
    assert hosts.place(rows.session, CONFIGURATION, full[0]) is host


@pytest.mark.parametrize(("field", "value"), [("resource_state", "Maintenance"), ("state", "Down")])
def test_a_host_that_is_away_gets_nothing_new(
    rows: Rows, host: Host, size: ServiceOffering, field: str, value: str
) -> None:
    setattr(host, field, value)
    with pytest.raises(CapacityError, match="no host that is up and enabled"):
        start(rows, size)
    other = another(rows)
    assert start(rows, size).host_id == other.id


def test_appliances_count_too(rows: Rows, host: Host, size: ServiceOffering) -> None:
    router = rows.add(
        Appliance(role="router", name="r-1-VM", zone_id=rows.zone.id, control_address="169.254.1.1", state="Starting")
    )
    hosts.place(rows.session, CONFIGURATION, router)
    assert router.host_id == host.id
    assert hosts.promised(rows.session, [host.id])[host.id] == Amount(500, 256 << 20)


def test_facts_are_taken_in(rows: Rows, host: Host) -> None:
    known = HostFacts("host1", "Namespace", 8, 16 << 30, url=host.url, cpu_mhz=2000, reserves=True)
    away = HostFacts("gone", "Namespace", 0, 0, url=another(rows).url, up=False)
    hosts.note_hosts(rows.session, [known, away])
    assert (host.name, host.cpus, host.cpu_mhz, host.memory_bytes) == ("host1", 8, 2000, 16 << 30)
    states = {row.url: (row.state, row.cpus) for row in rows.session.query(Host)}
    assert states == {host.url: ("Up", 8), away.url: ("Down", 4)}


def test_a_data_directory_is_of_one_kind_of_hypervisor(rows: Rows) -> None:
    with pytest.raises(GatehouseError, match="made for Namespace, not for KVM"):
        hosts.note_hosts(rows.session, [HostFacts("h", "KVM", 1, 1, url="qemu:///system")])
