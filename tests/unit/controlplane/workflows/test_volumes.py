"""Volumes and snapshots on a hypervisor in memory: rows and files go together, whatever fails or is cut off."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from controlplane.errors import ApiError
from controlplane.housekeeping import Housekeeping
from controlplane.hypervisors.base import HypervisorError
from controlplane.storage import snapshots as snapshot_rows
from controlplane.storage import volumes as rows
from controlplane.store.defaults import ADMIN_ACCOUNT_ID
from controlplane.store.models import DiskOffering, Event, Snapshot, SnapshotPolicy, StoragePool, Vm, Volume, now
from controlplane.workflows import pools, recurring, snapshots, vms, volumes
from controlplane.workflows.flow import Flow, Locks
from tests.unit.controlplane.fleet import Fleet
from tests.unit.controlplane.workflows.conftest import Killed, Recorder

GIB = 1 << 30


def fresh(fleet: Fleet, flow: Flow) -> Flow:
    """Another run beside the first."""
    return Flow(fleet.core, fleet.reconciler, flow.locks, None, Recorder().run_step)


def running_vm(fleet: Fleet, flow: Flow) -> str:
    with fleet.database.transaction() as session:
        made = fleet.in_session(session)
        vm = made.vm(made.network(name=f"net{len(fleet.hypervisor.running)}"))
        vm.state = "Starting"
        vm_id = vm.id
    vms.deploy_vm(fresh(fleet, flow), vm_id)
    return vm_id


def new_volume(fleet: Fleet, size: int = GIB, snapshot_id: str | None = None) -> str:
    with fleet.database.transaction() as session:
        made = fleet.in_session(session)
        volume = rows.create_data(session, "data", made.account, made.zone, offering=None, size=size)
        volume.snapshot_id = snapshot_id
        return volume.id


def reserve(fleet: Fleet, volume_id: str, vm_id: str) -> None:
    """What attachVolume does to the rows."""
    with fleet.database.transaction() as session:
        rows.attach(session, session.get_one(Volume, volume_id), session.get_one(Vm, vm_id), None)


def attached(fleet: Fleet, flow: Flow, vm_id: str) -> str:
    volume_id = new_volume(fleet)
    reserve(fleet, volume_id, vm_id)
    volumes.attach_volume(fresh(fleet, flow), volume_id)
    return volume_id


def file_of(fleet: Fleet, volume_id: str) -> Path:
    with fleet.database.reading() as session:
        return rows.file_of(session.get_one(Volume, volume_id))


def root_of(fleet: Fleet, vm_id: str) -> Volume:
    with fleet.database.reading() as session:
        root = rows.root_of(session, vm_id)
        assert root is not None
        return root


def new_snapshot(fleet: Fleet, volume_id: str, policy_id: str | None = None) -> str:
    with fleet.database.transaction() as session:
        policy = session.get_one(SnapshotPolicy, policy_id) if policy_id else None
        return snapshot_rows.create(session, session.get_one(Volume, volume_id), policy=policy).id


def taken(fleet: Fleet, flow: Flow, volume_id: str) -> str:
    snapshot_id = new_snapshot(fleet, volume_id)
    snapshots.create_snapshot(fresh(fleet, flow), snapshot_id)
    return snapshot_id


def test_a_guest_starts_with_a_root_volume_of_its_template(fleet: Fleet, flow: Flow) -> None:
    vm_id = running_vm(fleet, flow)
    root = root_of(fleet, vm_id)
    assert (root.state, root.type, root.device_id, root.size) == ("Ready", "ROOT", 0, 2 * GIB)
    assert fleet.hypervisor.disks[vm_id] == {Path(f"/pool/volumes/{root.id}.qcow2")}


def test_a_volume_is_made_when_it_is_attached_first(fleet: Fleet, flow: Flow) -> None:
    vm_id = running_vm(fleet, flow)
    volume_id = new_volume(fleet)
    assert len(fleet.hypervisor.volumes.files) == 1
    reserve(fleet, volume_id, vm_id)
    volumes.attach_volume(flow, volume_id)
    volume = fleet.read(Volume, volume_id)
    assert (volume.state, volume.device_id) == ("Ready", 1) and volume.attached is not None
    assert file_of(fleet, volume_id) in fleet.hypervisor.disks[vm_id]
    volumes.detach_volume(fresh(fleet, flow), volume_id)
    volume = fleet.read(Volume, volume_id)
    assert (volume.state, volume.vm_id, volume.device_id, volume.attached) == ("Ready", None, None, None)
    assert file_of(fleet, volume_id) not in fleet.hypervisor.disks[vm_id]


@pytest.mark.parametrize("step", ["make", "plug"])
def test_attaching_goes_on_after_a_crash_in_any_step(fleet: Fleet, flow: Flow, recorder: Recorder, step: str) -> None:
    vm_id = running_vm(fleet, flow)
    volume_id = new_volume(fleet)
    reserve(fleet, volume_id, vm_id)
    recorder.kill_in = step
    with pytest.raises(Killed):
        volumes.attach_volume(flow, volume_id)
    recorder.kill_in = None
    recorder.again()
    volumes.attach_volume(flow, volume_id)
    assert file_of(fleet, volume_id) in fleet.hypervisor.disks[vm_id]
    assert len(fleet.hypervisor.volumes.files) == 2


def test_a_volume_that_cannot_be_made_is_nobodys_again(fleet: Fleet, flow: Flow) -> None:
    def full(path: Path) -> None:
        raise HypervisorError("the storage pool is full")

    vm_id = running_vm(fleet, flow)
    volume_id = new_volume(fleet)
    reserve(fleet, volume_id, vm_id)
    fleet.hypervisor.volumes.fail = full
    with pytest.raises(ApiError, match="the storage pool is full"):
        volumes.attach_volume(flow, volume_id)
    volume = fleet.read(Volume, volume_id)
    assert (volume.state, volume.vm_id, volume.path, volume.pool_id) == ("Allocated", None, "", None)
    fleet.hypervisor.volumes.fail = lambda path: None
    reserve(fleet, volume_id, vm_id)
    volumes.attach_volume(fresh(fleet, flow), volume_id)
    assert fleet.read(Volume, volume_id).state == "Ready"


def test_a_guest_has_its_volumes_when_it_starts_again(fleet: Fleet, flow: Flow) -> None:
    vm_id = running_vm(fleet, flow)
    one = attached(fleet, flow, vm_id)
    vms.stop_vm(fresh(fleet, flow), vm_id, True)
    assert fleet.read(Volume, one).idle_since is not None
    two = attached(fleet, flow, vm_id)
    with fleet.database.transaction() as session:
        session.get_one(Vm, vm_id).state = "Starting"
    vms.start_vm(fresh(fleet, flow), vm_id)
    assert {file_of(fleet, one), file_of(fleet, two)} < fleet.hypervisor.disks[vm_id]
    assert fleet.read(Volume, one).idle_since is None


def test_no_guest_starts_while_a_volume_of_it_moves(fleet: Fleet, flow: Flow) -> None:
    vm_id = running_vm(fleet, flow)
    vms.stop_vm(fresh(fleet, flow), vm_id, True)
    with fleet.database.transaction() as session:
        session.get_one(Volume, root_of(fleet, vm_id).id).state = "Migrating"
        session.get_one(Vm, vm_id).state = "Starting"
    with pytest.raises(ApiError, match="is Migrating; wait"):
        vms.start_vm(fresh(fleet, flow), vm_id)
    assert fleet.read(Vm, vm_id).state == "Stopped"


def test_expunging_a_guest_takes_its_root_volume_and_leaves_the_others(fleet: Fleet, flow: Flow) -> None:
    vm_id = running_vm(fleet, flow)
    root, data = root_of(fleet, vm_id), attached(fleet, flow, vm_id)
    vms.destroy_vm(fresh(fleet, flow), vm_id)
    assert fleet.read(Volume, root.id).state == "Destroy"
    assert fleet.read(Volume, data).vm_id == vm_id
    vms.expunge_vm(flow, vm_id)
    assert fleet.read(Volume, root.id).state == "Expunged"
    volume = fleet.read(Volume, data)
    assert (volume.state, volume.vm_id) == ("Ready", None)
    assert list(fleet.hypervisor.volumes.files) == [file_of(fleet, data)]


def test_growing_is_seen_by_a_guest_that_runs(fleet: Fleet, flow: Flow) -> None:
    volume_id = attached(fleet, flow, running_vm(fleet, flow))
    volumes.resize_volume(flow, volume_id, 3 * GIB, False, None)
    assert fleet.read(Volume, volume_id).size == fleet.hypervisor.volumes.files[file_of(fleet, volume_id)] == 3 * GIB
    with pytest.raises(ApiError, match="stop the virtual machine first"):
        volumes.resize_volume(fresh(fleet, flow), volume_id, GIB, True, None)
    volume = fleet.read(Volume, volume_id)
    assert (volume.size, volume.state) == (3 * GIB, "Ready")


@pytest.mark.parametrize("step", [None, "copy", "move", "clean"])
def test_a_volume_moves_to_another_pool(fleet: Fleet, flow: Flow, recorder: Recorder, step: str | None) -> None:
    volume_id = new_volume(fleet)
    volumes.make_volume(fresh(fleet, flow), volume_id)
    with fleet.database.transaction() as session:
        zone = session.get_one(Volume, volume_id).zone_id
        pool = StoragePool(zone_id=zone, name="second", path="/second")
        session.add(pool)
        session.flush()
        pool_id = pool.id
    recorder.kill_in = step
    if step is not None:
        with pytest.raises(Killed):
            volumes.migrate_volume(flow, volume_id, pool_id)
        recorder.kill_in = None
        recorder.again()
    volumes.migrate_volume(flow, volume_id, pool_id)
    assert list(fleet.hypervisor.volumes.files) == [Path(f"/second/volumes/{volume_id}.qcow2")]
    volume = fleet.read(Volume, volume_id)
    assert (volume.state, volume.pool_id) == ("Ready", pool_id)


def test_the_emptiest_pool_with_all_tags_is_taken(fleet: Fleet, flow: Flow) -> None:
    with fleet.database.transaction() as session:
        zone = fleet.in_session(session).zone.id
        session.add(StoragePool(zone_id=zone, name="fast", path="/fast", tags="ssd, fast"))
        offering = fleet.rows.add(DiskOffering(name="f", display_text="f", is_customized=True, tags="fast"))
    fast, any_, large = new_volume(fleet), new_volume(fleet, 150 * GIB), new_volume(fleet, 150 * GIB)
    with fleet.database.transaction() as session:
        session.get_one(Volume, fast).disk_offering_id = offering.id
    for volume_id in (any_, fast, large):
        volumes.make_volume(fresh(fleet, flow), volume_id)
    assert file_of(fleet, fast).is_relative_to("/fast")
    # of 100 GiB each, promised twice
    assert {file_of(fleet, any_).parts[1], file_of(fleet, large).parts[1]} == {"pool", "fast"}
    with pytest.raises(ApiError, match="no storage pool of the zone has room for 150 GiB"):
        volumes.make_volume(flow, new_volume(fleet, 150 * GIB))


def test_a_snapshot_outlives_its_volume_and_becomes_another(fleet: Fleet, flow: Flow) -> None:
    volume_id = attached(fleet, flow, running_vm(fleet, flow))
    snapshot_id = taken(fleet, flow, volume_id)
    snapshot = fleet.read(Snapshot, snapshot_id)
    assert (snapshot.state, snapshot.size, snapshot.physical_size) == ("BackedUp", GIB, GIB // 10)
    volumes.detach_volume(fresh(fleet, flow), volume_id)
    volumes.delete_volume(fresh(fleet, flow), volume_id)
    again = new_volume(fleet, 2 * GIB, snapshot_id)
    volumes.make_volume(fresh(fleet, flow), again)
    assert fleet.hypervisor.volumes.files[file_of(fleet, again)] == 2 * GIB
    assert fleet.hypervisor.volumes.origins[file_of(fleet, again)] == Path(f"/pool/snapshots/{snapshot_id}.qcow2")
    snapshots.delete_snapshot(fresh(fleet, flow), snapshot_id)
    assert fleet.read(Snapshot, snapshot_id).removed is not None
    assert Path(f"/pool/snapshots/{snapshot_id}.qcow2") not in fleet.hypervisor.volumes.files


def test_a_snapshot_that_fails_is_in_error_and_leaves_no_file(fleet: Fleet, flow: Flow) -> None:
    def refuse(path: Path) -> None:
        if "snapshots" in path.parts:
            raise HypervisorError("the storage pool is full")

    volume_id = attached(fleet, flow, running_vm(fleet, flow))
    fleet.hypervisor.volumes.fail = refuse
    snapshot_id = new_snapshot(fleet, volume_id)
    with pytest.raises(ApiError, match="the storage pool is full"):
        snapshots.create_snapshot(flow, snapshot_id)
    snapshot = fleet.read(Snapshot, snapshot_id)
    assert (snapshot.state, snapshot.detail) == ("Error", "the storage pool is full")
    assert fleet.read(Volume, volume_id).state == "Ready"


def test_a_stopped_guests_volume_goes_back(fleet: Fleet, flow: Flow) -> None:
    vm_id = running_vm(fleet, flow)
    volume_id = attached(fleet, flow, vm_id)
    snapshot_id = taken(fleet, flow, volume_id)
    volumes.resize_volume(fresh(fleet, flow), volume_id, 5 * GIB, False, None)
    with pytest.raises(ApiError, match="runs; stop it"):
        snapshots.revert_snapshot(fresh(fleet, flow), snapshot_id, volume_id)
    vms.stop_vm(fresh(fleet, flow), vm_id, True)
    snapshots.revert_snapshot(flow, snapshot_id, volume_id)
    volume = fleet.read(Volume, volume_id)
    assert (volume.size, volume.state) == (GIB, "Ready")


def test_maintenance_of_a_pool_stops_its_guests_and_starts_them_again(fleet: Fleet, flow: Flow) -> None:
    vm_id = running_vm(fleet, flow)
    with fleet.database.transaction() as session:
        still = fleet.in_session(session).vm(fleet.rows.network(name="other"), name="still")
        still.state = "Stopped"
        pool = session.query(StoragePool).one()
        pool.state, pool_id, still_id = "PrepareForMaintenance", pool.id, still.id
    pools.prepare_pool(fresh(fleet, flow), pool_id)
    assert fleet.read(StoragePool, pool_id).state == "Maintenance"
    assert fleet.read(Vm, vm_id).state == "Stopped" and vm_id not in fleet.hypervisor.running
    with fleet.database.transaction() as session:
        session.get_one(Vm, vm_id).state = "Starting"
    with pytest.raises(ApiError, match="is Maintenance"):
        vms.start_vm(fresh(fleet, flow), vm_id)
    pools.resume_pool(fresh(fleet, flow), pool_id)
    assert fleet.read(StoragePool, pool_id).state == "Up"
    assert (fleet.read(Vm, vm_id).state, fleet.read(Vm, still_id).state) == ("Running", "Stopped")


# --- policies -----------------------------------------------------------------------------------------------------


def policy_of(fleet: Fleet, volume_id: str, *, kept: int = 2) -> str:
    with fleet.database.transaction() as session:
        policy = SnapshotPolicy(
            volume_id=volume_id, interval="HOURLY", schedule="0", timezone="UTC", max_snaps=kept, next_run=now()
        )
        session.add(policy)
        session.flush()
        return policy.id


def run_due(fleet: Fleet, flow: Flow, *, later: timedelta = timedelta()) -> list[str]:
    """Snapshots that were begun, and made."""
    begun: list[str] = []

    def start(name: str, job_id: str, arguments: dict[str, Any]) -> None:
        assert name == "create_snapshot"
        begun.append(arguments["snapshot_id"])

    recurring.make_due(fleet.core, start, now() + later)
    for snapshot_id in begun:
        snapshots.create_snapshot(fresh(fleet, flow), snapshot_id)
    return begun


def test_a_policy_keeps_its_newest_snapshots_and_no_manual_one_goes(fleet: Fleet, flow: Flow) -> None:
    volume_id = attached(fleet, flow, running_vm(fleet, flow))
    manual = taken(fleet, flow, volume_id)
    policy_of(fleet, volume_id)
    made = [id for hours in range(4) for id in run_due(fleet, flow, later=timedelta(hours=hours))]
    assert len(made) == 4
    there = [id for id in [manual, *made] if fleet.read(Snapshot, id).removed is None]
    assert there == [manual, *made[-2:]]
    assert len([path for path in fleet.hypervisor.volumes.files if "snapshots" in path.parts]) == 3


def test_what_was_missed_is_made_up_for_by_one_snapshot_and_told(fleet: Fleet, flow: Flow) -> None:
    volume_id = attached(fleet, flow, running_vm(fleet, flow))
    policy_id = policy_of(fleet, volume_id)
    assert len(run_due(fleet, flow, later=timedelta(hours=30))) == 1
    assert fleet.read(SnapshotPolicy, policy_id).next_run > now() + timedelta(hours=30)
    with fleet.database.reading() as session:
        [late] = session.scalars(select(Event).where(Event.type == "SNAPSHOT.CREATE", Event.level == "WARN"))
    assert "is made late" in late.description


def test_a_volume_that_nothing_wrote_to_has_one_snapshot(fleet: Fleet, flow: Flow) -> None:
    vm_id = running_vm(fleet, flow)
    volume_id = attached(fleet, flow, vm_id)
    policy_of(fleet, volume_id)
    vms.stop_vm(fresh(fleet, flow), vm_id, True)
    assert [len(run_due(fleet, flow, later=timedelta(hours=hours))) for hours in (0, 1, 2)] == [1, 0, 0]


def test_at_the_limit_there_is_a_warning_in_place_of_a_snapshot(fleet: Fleet, flow: Flow) -> None:
    volume_id = attached(fleet, flow, running_vm(fleet, flow))
    policy_of(fleet, volume_id)
    with fleet.database.transaction() as session:
        account = session.get_one(Volume, volume_id).account_id
        fleet.core.configuration.set(session, "max.account.snapshots", "0", "account", account)
    assert run_due(fleet, flow) == []
    with fleet.database.reading() as session:
        [warning] = session.scalars(select(Event).where(Event.level == "WARN", Event.type == "SNAPSHOT.CREATE"))
    assert "no hourly snapshot of volume data was made" in warning.description
    assert warning.account_id != ADMIN_ACCOUNT_ID


def test_deleted_volumes_go_at_once_and_destroyed_ones_later(fleet: Fleet, flow: Flow) -> None:
    deleted, destroyed = new_volume(fleet), new_volume(fleet)
    for volume_id in (deleted, destroyed):
        volumes.make_volume(fresh(fleet, flow), volume_id)
    with fleet.database.transaction() as session:
        session.get_one(Volume, deleted).state = "Expunging"
        session.get_one(Volume, destroyed).state, session.get_one(Volume, destroyed).destroyed = "Destroy", now()
    house = Housekeeping(fleet.core, fleet.reconciler, Locks(), lambda *_: None)
    house.expunge()
    assert list(fleet.hypervisor.volumes.files) == [Path(f"/pool/volumes/{destroyed}.qcow2")]
    with fleet.database.transaction() as session:
        session.get_one(Volume, destroyed).destroyed = now() - timedelta(days=2)
    house.expunge()
    assert fleet.hypervisor.volumes.files == {}
