"""Volumes: from rows to files, and into and out of guests (guide: chapter 13.4)."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy.orm import Session

from controlplane.errors import ApiError
from controlplane.imagestores import images
from controlplane.storage import pools
from controlplane.storage import volumes as rows
from controlplane.store.models import StoragePool, Volume, now
from controlplane.workflows import transfers
from controlplane.workflows.flow import Flow


def make_volume(flow: Flow, volume_id: str) -> None:
    """Workflow: make the file of a new volume. A failure removes the volume."""
    try:
        flow.step("make", prepare, volume_id)
    except ApiError:
        flow.step("give up", discard, volume_id)
        raise


def attach_volume(flow: Flow, volume_id: str) -> None:
    """Workflow: make the file of a volume unless it is there, and plug it into its VM. A failure detaches it."""
    try:
        flow.step("make", prepare, volume_id)
        flow.step("plug", _plug, volume_id)
    except ApiError:
        flow.step("take back", _unplug, volume_id)
        raise


def detach_volume(flow: Flow, volume_id: str) -> None:
    """Workflow: unplug a volume from its VM. A failure leaves it there."""
    try:
        flow.step("unplug", _unplug, volume_id)
    except ApiError:
        flow.step("settle", settle, volume_id)
        raise


def resize_volume(flow: Flow, volume_id: str, size: int, shrink: bool, disk_offering_id: str | None) -> None:
    """Workflow: give a volume ``size`` bytes; a running VM sees its disk grow."""
    try:
        flow.step("resize", _resize, volume_id, size, shrink, disk_offering_id)
    except ApiError:
        flow.step("settle", settle, volume_id)
        raise


def migrate_volume(flow: Flow, volume_id: str, pool_id: str) -> None:
    """Workflow: move the file of a volume that nothing uses to another pool."""
    try:
        old = flow.step("copy", _copy_to, volume_id, pool_id)
        flow.step("move", _move_to, volume_id, pool_id)
    except ApiError:
        flow.step("settle", settle, volume_id)
        raise
    flow.step("clean", _remove_file, old)


def delete_volume(flow: Flow, volume_id: str) -> None:
    """Workflow: remove a volume and its file."""
    flow.step("expunge", discard, volume_id)


def prepare(flow: Flow, volume_id: str) -> None:
    """Give a volume a place and make its file there, unless it has them."""
    hypervisor = flow.core.hypervisor
    with flow.locks.of(volume_id):
        with flow.core.database.transaction() as session:
            volume = existing(session, volume_id)
            if volume.state == "Ready":
                return
            if volume.pool is None:
                volume.pool_id = pools.choose(session, flow.core.configuration, hypervisor.volumes, volume).id
                session.flush()
                session.refresh(volume, ["pool"])
            volume.path = volume.path or f"volumes/{volume.id}.qcow2"
            volume.state = "Creating"
            file, size = rows.file_of(volume), volume.size
            template = volume.vm.template.image if volume.type == "ROOT" and volume.vm is not None else None
            snapshot_id = volume.snapshot_id
            uploaded = images.ready(session, "Volume", volume_id, volume.zone_id) if volume.uploaded else None
        if template is not None:
            size = hypervisor.make_root(file, template, size)
        elif snapshot_id is not None or uploaded is not None:
            if snapshot_id is not None:
                transfers.put(flow, snapshot_id, file)
            elif uploaded is not None:
                transfers.fetch(flow, uploaded, file)
            size = max(size, hypervisor.volumes.size(file))
            hypervisor.volumes.resize(file, size)
        else:
            hypervisor.volumes.create(file, size)
        with flow.core.database.transaction() as session:
            volume = existing(session, volume_id)
            volume.state, volume.size, volume.uploaded = "Ready", size, False
            if volume.type == "ROOT":
                volume.attached = volume.attached or now()
            if size == 0:
                # the hypervisor's guests have no disks
                volume.path = ""
    if uploaded is not None:
        # it is on primary storage from now on
        transfers.forget(flow, "Volume", volume_id)


def _plug(flow: Flow, volume_id: str) -> None:
    vm_id = _vm_of(flow, volume_id)
    if vm_id is None:
        raise ApiError("the virtual machine is gone; it was expunged meanwhile")
    # in turns with what starts and stops the VM
    with flow.locks.of(vm_id):
        with flow.core.database.reading() as session:
            disk = rows.disk_of(existing(session, volume_id))
        flow.core.hypervisor.attach_disk(vm_id, disk)
        runs = flow.core.hypervisor.power(vm_id) == "running"
        with flow.core.database.transaction() as session:
            volume = existing(session, volume_id)
            volume.attached = volume.attached or now()
            volume.idle_since = None if runs else volume.idle_since


def _unplug(flow: Flow, volume_id: str) -> None:
    vm_id = _vm_of(flow, volume_id)
    if vm_id is None:
        return
    with flow.locks.of(vm_id):
        with flow.core.database.reading() as session:
            volume = existing(session, volume_id)
            file = rows.file_of(volume) if volume.path and volume.pool is not None else None
        if file is not None:
            flow.core.hypervisor.detach_disk(vm_id, file)
        with flow.core.database.transaction() as session:
            volume = existing(session, volume_id)
            whole = file is None or volume.state != "Creating"
            rows.detach(session, volume)
            if not whole:
                # making its file failed: it begins anew at the next place
                volume.path, volume.pool_id = "", None
                volume.state = rows.settled(volume)
    if file is not None and not whole:
        _remove_file(flow, str(file))


def _vm_of(flow: Flow, volume_id: str) -> str | None:
    with flow.core.database.reading() as session:
        return existing(session, volume_id).vm_id


def _resize(flow: Flow, volume_id: str, size: int, shrink: bool, disk_offering_id: str | None) -> None:
    vm_id = _vm_of(flow, volume_id)
    with flow.locks.of(vm_id or volume_id):
        with flow.core.database.reading() as session:
            volume = existing(session, volume_id)
            file = rows.file_of(volume) if volume.path else None
            grows = size > volume.size
        if file is not None and not (vm_id and grows and flow.core.hypervisor.resize_disk(vm_id, file, size)):
            _need_stopped(flow, vm_id, "shrink")
            flow.core.hypervisor.volumes.resize(file, size, shrink=shrink)
        with flow.core.database.transaction() as session:
            volume = existing(session, volume_id)
            volume.size, volume.disk_offering_id = size, disk_offering_id
            volume.state = rows.settled(volume)


def _need_stopped(flow: Flow, vm_id: str | None, to: str) -> None:
    """ApiError while a VM runs; for the time that its lock is held it then stays stopped."""
    if not flow.still(vm_id):
        raise ApiError(f"Unable to {to} a volume of a virtual machine that runs; stop the virtual machine first")


def _copy_to(flow: Flow, volume_id: str, pool_id: str) -> str:
    """Copy a volume into another pool; where its old file is."""
    vm_id = _vm_of(flow, volume_id)
    with flow.locks.of(vm_id or volume_id):
        _need_stopped(flow, vm_id, "migrate")
        with flow.core.database.reading() as session:
            source, target = _ways(session, volume_id, pool_id)
        # a copy that was made before a crash may be older than the volume
        flow.core.hypervisor.volumes.remove(target)
        flow.core.hypervisor.volumes.copy(source, target)
    return str(source)


def _move_to(flow: Flow, volume_id: str, pool_id: str) -> None:
    """Make the copy the volume."""
    vm_id = _vm_of(flow, volume_id)
    with flow.locks.of(vm_id or volume_id), flow.core.database.transaction() as session:
        volume = existing(session, volume_id)
        volume.pool_id, volume.path = pool_id, f"volumes/{volume.id}.qcow2"
        volume.state = "Ready"


def _ways(session: Session, volume_id: str, pool_id: str) -> tuple[Path, Path]:
    volume, pool = existing(session, volume_id), session.get_one(StoragePool, pool_id)
    return rows.file_of(volume), Path(pool.path, f"volumes/{volume.id}.qcow2")


def _remove_file(flow: Flow, path: str) -> None:
    flow.core.hypervisor.volumes.remove(Path(path))


def settle(flow: Flow, volume_id: str) -> None:
    """Nothing is being done to a volume any more."""
    with flow.core.database.transaction() as session:
        volume = session.get_one(Volume, volume_id)
        if volume.state not in ("Destroy", "Expunging", "Expunged"):
            volume.state = rows.settled(volume)


def discard(flow: Flow, volume_id: str) -> None:
    """Remove a volume that is nobody's, and its file. Doing so twice does nothing."""
    with flow.locks.of(volume_id):
        with flow.core.database.transaction() as session:
            volume = session.get_one(Volume, volume_id)
            if volume.removed is not None:
                return
            volume.state = "Expunging"
            file = rows.file_of(volume) if volume.path and volume.pool is not None else None
        if file is not None:
            flow.core.hypervisor.volumes.remove(file)
        transfers.forget(flow, "Volume", volume_id)
        with flow.core.database.transaction() as session:
            rows.expunge(session, session.get_one(Volume, volume_id))


def existing(session: Session, volume_id: str) -> Volume:
    """ApiError when it is gone."""
    volume = session.get(Volume, volume_id)
    if volume is None or volume.removed is not None:
        raise ApiError("the volume is gone; it was deleted meanwhile")
    return volume
