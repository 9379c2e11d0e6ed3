"""Snapshots: copies of disks, kept beside the volumes, and volumes that go back to them (guide: chapter 13.5)."""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path

from sqlalchemy import select

from controlplane.errors import ApiError, InUseError
from controlplane.network import tags
from controlplane.storage import snapshots as rows
from controlplane.storage import volumes as volume_rows
from controlplane.storage.settings import AT_ONCE, PATIENCE
from controlplane.store.models import Snapshot, SnapshotPolicy, Volume, now
from controlplane.workflows import transfers
from controlplane.workflows.flow import Flow
from controlplane.workflows.volumes import existing, settle

log = logging.getLogger(__name__)


def create_snapshot(flow: Flow, snapshot_id: str, quiesce: bool = False) -> None:
    """Workflow: copy a volume as it is now; then a policy's oldest snapshots go. A failure leaves it in Error."""
    try:
        flow.step("copy", _copy, snapshot_id, quiesce)
    except ApiError as error:
        flow.step("give up", _failed, snapshot_id, error.text)
        raise
    flow.step("back up", transfers.back_up, snapshot_id)
    flow.step("retain", _retain, snapshot_id)


def delete_snapshot(flow: Flow, snapshot_id: str) -> None:
    """Workflow: remove a snapshot and its file."""
    flow.step("remove", _remove, snapshot_id)


def revert_snapshot(flow: Flow, snapshot_id: str, volume_id: str) -> None:
    """Workflow: make a volume what it was in a snapshot. A failure leaves it as it is."""
    try:
        flow.step("revert", _revert, snapshot_id, volume_id)
    except ApiError:
        flow.step("settle", settle, volume_id)
        raise


def _copy(flow: Flow, snapshot_id: str, quiesce: bool) -> None:
    with flow.core.database.reading() as session:
        snapshot = session.get_one(Snapshot, snapshot_id)
        volume = existing(session, snapshot.volume_id)
        source, target = volume_rows.file_of(volume), volume_rows.snapshot_file(snapshot)
        vm_id = volume.vm_id
        # where it ran last, if it is stopped
        host = volume.vm.host_id if volume.vm is not None else None
        patience = flow.core.configuration.get_int(session, PATIENCE) * 60.0
    with flow.locks.snapshots.turn(host or "", partial(_at_once, flow), patience, lambda: flow.reconciler.stopping):
        _copy_file(flow, vm_id, source, target, quiesce)
    with flow.core.database.transaction() as session:
        snapshot = session.get_one(Snapshot, snapshot_id)
        snapshot.state = "BackedUp"
        snapshot.size = flow.core.hypervisor.volumes.size(target)
        snapshot.physical_size = flow.core.hypervisor.volumes.used(target)


def _at_once(flow: Flow) -> int:
    with flow.core.database.reading() as session:
        return flow.core.configuration.get_int(session, AT_ONCE)


def _copy_file(flow: Flow, vm_id: str | None, source: Path, target: Path, quiesce: bool) -> None:
    hypervisor = flow.core.hypervisor
    if vm_id is None:
        hypervisor.volumes.copy(source, target)
        return
    while not hypervisor.copy_disk(vm_id, source, target, quiesce=quiesce):
        # it is stopped, and stays so for as long as its lock is held
        with flow.locks.of(vm_id):
            if flow.still(vm_id):
                hypervisor.volumes.copy(source, target)
                return


def _failed(flow: Flow, snapshot_id: str, why: str) -> None:
    with flow.core.database.transaction() as session:
        snapshot = session.get_one(Snapshot, snapshot_id)
        file = volume_rows.snapshot_file(snapshot) if snapshot.pool is not None else None
        snapshot.state, snapshot.detail = "Error", why
    if file is not None:
        flow.core.hypervisor.volumes.remove(file)


def _retain(flow: Flow, snapshot_id: str) -> None:
    with flow.core.database.reading() as session:
        snapshot = session.get_one(Snapshot, snapshot_id)
        policy = session.get(SnapshotPolicy, snapshot.policy_id) if snapshot.policy_id is not None else None
        gone = [row.id for row in rows.surplus(session, policy)] if policy is not None else []
    for old in gone:
        try:
            _remove(flow, old)
        except InUseError as error:
            # it goes with the next one
            log.info("snapshot %s is kept for now: %s", old, error)


def _remove(flow: Flow, snapshot_id: str) -> None:
    with flow.core.database.transaction() as session:
        snapshot = session.get_one(Snapshot, snapshot_id)
        if snapshot.removed is not None:
            return
        rows.check_unused(session, snapshot)
        snapshot.state = "Destroying"
        file = volume_rows.snapshot_file(snapshot) if snapshot.pool is not None else None
    if file is not None:
        flow.core.hypervisor.volumes.remove(file)
    transfers.forget(flow, "Snapshot", snapshot_id)
    with flow.core.database.transaction() as session:
        session.get_one(Snapshot, snapshot_id).removed = now()
        tags.forget(session, "Snapshot", select(Snapshot.id).where(Snapshot.id == snapshot_id))


def _revert(flow: Flow, snapshot_id: str, volume_id: str) -> None:
    with flow.core.database.reading() as session:
        vm_id = existing(session, volume_id).vm_id
    with flow.locks.of(vm_id or volume_id):
        if not flow.still(vm_id):
            raise ApiError("the virtual machine runs; stop it before a volume of it goes back to a snapshot")
        with flow.core.database.reading() as session:
            file = volume_rows.file_of(existing(session, volume_id))
        fresh = file.with_name(f"{volume_id}.revert")
        flow.core.hypervisor.volumes.remove(fresh)
        transfers.put(flow, snapshot_id, fresh)
        flow.core.hypervisor.volumes.replace(file, fresh)
        with flow.core.database.transaction() as session:
            volume = session.get_one(Volume, volume_id)
            volume.size, volume.state = flow.core.hypervisor.volumes.size(file), "Ready"
            volume.idle_since = now()
