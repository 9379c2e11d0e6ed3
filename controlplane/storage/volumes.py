"""Volumes: the rows of a new one, and what each state allows (guide: chapter 13.4)."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from controlplane.errors import InUseError, ParameterError
from controlplane.hypervisors.base import GuestDisk
from controlplane.hypervisors.volumes import Volumes
from controlplane.network import tags
from controlplane.store.models import (
    Account,
    DiskOffering,
    Snapshot,
    SnapshotPolicy,
    StoragePool,
    Template,
    Vm,
    Volume,
    Zone,
    now,
)

GIB = 1 << 30
#: data volumes of one VM (guide: chapter 13.4)
MOST_DATA_VOLUMES = 6
#: number of the CD drive
_CD = 3
#: disks are vda to vdz
_DEVICES = range(1, 26)
#: states in which nothing is being done to a volume
SETTLED = ("Allocated", "Uploaded", "Ready")


def adopt(session: Session, files: Volumes) -> None:
    """Give VMs of before there were volumes their root volumes, whose files are where the hypervisor made them."""
    having = select(Volume.vm_id).where(Volume.type == "ROOT", Volume.vm_id.is_not(None))
    for vm in session.scalars(select(Vm).where(Vm.removed.is_(None), Vm.id.not_in(having))):
        volume = create_root(session, vm)
        own = select(StoragePool).where(StoragePool.zone_id == vm.zone_id, StoragePool.is_default)
        volume.pool = session.scalars(own).one()
        file = Path(volume.pool.path, f"instances/{vm.id}/disk.qcow2")
        if file.exists():
            volume.path = str(file.relative_to(volume.pool.path))
            volume.size = files.size(file)
            volume.state = "Ready" if volume.state == "Allocated" else volume.state
        session.flush()


def create_root(session: Session, vm: Vm, size: int = 0) -> Volume:
    """The root volume of a new VM; with ``size`` bytes, or those of its template when these are more."""
    volume = Volume(
        name=f"ROOT-{vm.name}",
        account_id=vm.account_id,
        zone_id=vm.zone_id,
        template_id=vm.template_id,
        vm_id=vm.id,
        device_id=0,
        type="ROOT",
        size=max(size, vm.template.size if vm.template.format != "DIR" else 0),
        state="Destroy" if vm.state in ("Destroyed", "Error") else "Allocated",
    )
    session.add(volume)
    session.flush()
    return volume


def create_data(
    session: Session,
    name: str,
    account: Account,
    zone: Zone,
    *,
    offering: DiskOffering | None,
    size: int,
    snapshot: Snapshot | None = None,
) -> Volume:
    """A data volume of ``size`` bytes that is nowhere yet."""
    volume = Volume(
        name=name,
        account_id=account.id,
        zone_id=zone.id,
        disk_offering_id=offering.id if offering is not None else None,
        snapshot_id=snapshot.id if snapshot is not None else None,
        size=size,
    )
    session.add(volume)
    session.flush()
    return volume


def size_of(offering: DiskOffering, asked: int | None, largest: int) -> int:
    """Bytes of a volume of an offering. ``asked`` and ``largest`` are GiB; ParameterError for what does not fit."""
    if offering.is_customized:
        if asked is None:
            raise ParameterError(f"size: disk offering {offering.name} has no size of its own; say how many GiB")
    elif asked is not None and asked != offering.disk_size:
        raise ParameterError(f"size: disk offering {offering.name} has {offering.disk_size} GiB; leave size out")
    size = asked if asked is not None else offering.disk_size
    if not 1 <= size <= largest:
        raise ParameterError(f"size: a volume may have 1 to {largest} GiB, not {size}")
    return size * GIB


def root_of(session: Session, vm_id: str) -> Volume | None:
    """The root volume of a VM."""
    statement = select(Volume).where(Volume.vm_id == vm_id, Volume.type == "ROOT", Volume.removed.is_(None))
    return session.scalars(statement).one_or_none()


def of_vm(session: Session, vm_id: str) -> list[Volume]:
    """All volumes of a VM, the root volume first."""
    statement = select(Volume).where(Volume.vm_id == vm_id, Volume.removed.is_(None))
    return list(session.scalars(statement.order_by(Volume.device_id)))


def file_of(volume: Volume) -> Path:
    """Where the volume's file is, or will be. ParameterError when it has none."""
    if volume.type == "ROOT" and volume.state == "Ready" and not volume.path:
        raise ParameterError(
            f"volume {volume.name} is no disk: guests of the namespace hypervisor have trees of files; "
            "virtual machines (gatehouse serve --hypervisor libvirt) have disks"
        )
    if volume.pool is None or not volume.path:
        raise ParameterError(f"volume {volume.name} is nowhere yet; attach it to a virtual machine first")
    return Path(volume.pool.path, volume.path)


def need_disk(volume: Volume) -> None:
    """ParameterError unless the volume has, or can have, a file."""
    if volume.type == "ROOT" or volume.state != "Allocated":
        file_of(volume)


def snapshot_file(snapshot: Snapshot) -> Path:
    """Where a snapshot's file is, or will be."""
    assert snapshot.pool is not None, "it is placed when it is made"
    return Path(snapshot.pool.path, snapshot.path)


def disk_of(volume: Volume) -> GuestDisk:
    """The volume as a disk of its guest, which finds it by the first 20 digits of its id."""
    assert volume.device_id is not None, "it is attached"
    serial = volume.id.replace("-", "")[:20] if volume.type != "ROOT" else ""
    return GuestDisk(file_of(volume), volume.device_id, serial)


def attach(session: Session, volume: Volume, vm: Vm, device: int | None) -> None:
    """Make a volume a VM's, under a number that is free. ParameterError for what does not fit."""
    taken = {other.device_id for other in of_vm(session, vm.id)}
    if len([number for number in taken if number]) >= MOST_DATA_VOLUMES:
        raise ParameterError(f"virtual machine {vm.name} has {MOST_DATA_VOLUMES} data volumes; it may have no more")
    free = [number for number in _DEVICES if number != _CD and number not in taken]
    if device is None:
        device = free[0]
    elif device in taken:
        raise ParameterError(f"deviceid: number {device} of virtual machine {vm.name} is taken; give another, or none")
    elif device not in free:
        raise ParameterError(f"deviceid: {device} cannot be a data volume's; it takes 1 to {_DEVICES[-1]}, but 3")
    volume.vm_id, volume.device_id = vm.id, device
    session.flush()


def detach(session: Session, volume: Volume) -> None:
    """Make a volume nobody's."""
    volume.vm_id = volume.device_id = volume.attached = None
    volume.idle_since = volume.idle_since or now()
    volume.state = settled(volume)
    session.flush()


def settled(volume: Volume) -> str:
    """The state of a volume that nothing is being done to."""
    if volume.path or volume.type == "ROOT":
        return "Ready"
    return "Uploaded" if volume.uploaded else "Allocated"


def need_settled(session: Session, volume: Volume, to: str) -> None:
    """ParameterError, InUseError unless nothing is being done to the volume; ``to`` says what was wanted."""
    if volume.state not in SETTLED:
        raise ParameterError(f"Unable to {to} volume {volume.name}: it is {volume.state}; wait until that has ended")
    if volume.vm_id is not None and volume.type != "ROOT" and volume.attached is None:
        raise ParameterError(f"Unable to {to} volume {volume.name}: it is being attached; wait until that has ended")
    making = select(Snapshot.id).where(Snapshot.volume_id == volume.id, Snapshot.state.in_(("Creating", "Allocated")))
    if session.scalars(making.limit(1)).first() is not None:
        raise InUseError(f"Unable to {to} volume {volume.name}: a snapshot of it is being made; wait for that")


def destroy_root(session: Session, vm_id: str) -> None:
    """A VM is destroyed: so is its root volume, until it is recovered or expunged."""
    root = root_of(session, vm_id)
    if root is not None:
        root.state, root.destroyed = "Destroy", now()


def recover_root(session: Session, vm_id: str) -> None:
    """A destroyed VM is stopped again."""
    root = root_of(session, vm_id)
    if root is not None:
        root.state, root.destroyed = "Ready" if root.path else "Allocated", None


def idle(session: Session, vm_id: str) -> None:
    """Note that a VM writes to its volumes no more."""
    for volume in of_vm(session, vm_id):
        volume.idle_since = now()


def used(session: Session, vm_id: str) -> None:
    """Note that a VM may write to its volumes from now on."""
    for volume in of_vm(session, vm_id):
        volume.idle_since = None


def leave(session: Session, vm: Vm) -> None:
    """A VM is expunged: its root volume is gone, the others are nobody's (guide: 13.2.2)."""
    for volume in of_vm(session, vm.id):
        if volume.type == "ROOT":
            expunge(session, volume)
        else:
            detach(session, volume)


def expunge(session: Session, volume: Volume) -> None:
    """A volume's file is gone. Its snapshots stay."""
    for policy in session.scalars(select(SnapshotPolicy).where(SnapshotPolicy.volume_id == volume.id)):
        session.delete(policy)
    tags.forget(session, "Volume", select(Volume.id).where(Volume.id == volume.id))
    volume.state, volume.removed = "Expunged", volume.removed or now()
    session.flush()


def template_of(session: Session, volume: Volume) -> Template | None:
    """What a root volume was made of."""
    return session.get(Template, volume.template_id) if volume.template_id is not None else None
