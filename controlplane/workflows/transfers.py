"""Disks on their way between primary storage and image stores, through SSVMs (guide: chapters 12.7, 13.4.2, 13.5).

What goes out is copied to the exchange first, so no SSVM sees a file that guests run from; what comes in is copied from
there by us, so that nobody else can write to it any more.
"""

from __future__ import annotations

from pathlib import Path

from sqlalchemy.orm import Session

from controlplane.errors import ApiError
from controlplane.imagestores import images, shares
from controlplane.imagestores import stores as image_stores
from controlplane.imagestores import transfers as image_transfers
from controlplane.storage import transfers
from controlplane.storage import volumes as volume_rows
from controlplane.store.models import AsyncJob, Snapshot, StoredImage, Template, Volume
from controlplane.templates import rows as template_rows
from controlplane.workflows import exchange
from controlplane.workflows.flow import Flow

#: seconds for an SSVM to know a link
LINKED = 60.0
#: setting: snapshots go to secondary storage where a zone has one
BACKUP = "snapshot.backup.to.secondary"


def send(flow: Flow, image_id: str, source: Path) -> None:
    """Make an image of a disk that nothing writes to. Raises ApiError. Doing so twice does nothing."""
    place = exchange.place(flow, f"{image_id}.qcow2")
    with flow.core.database.reading() as session:
        if session.get_one(StoredImage, image_id).state == "Ready":
            return
    flow.core.hypervisor.volumes.copy(source, place)
    # for the SSVM's user; the directory cannot be listed
    place.chmod(0o644)
    try:
        exchange.convert(flow, image_id, store_id=shares.EXCHANGE, path=place.name, format="qcow2")
    except ApiError:
        place.unlink(missing_ok=True)
        raise
    place.unlink(missing_ok=True)


def fetch(flow: Flow, image: StoredImage, target: Path) -> None:
    """Make a disk of an image in a store. Raises ApiError. Doing so twice does nothing."""
    if target.exists():
        return
    with exchange.brought(flow, image, f"{target.stem}-in.qcow2") as place:
        flow.core.hypervisor.volumes.copy(place, target)


def back_up(flow: Flow, snapshot_id: str) -> None:
    """Move a snapshot to secondary storage, where its zone has some; if that fails it stays where it is."""
    with flow.core.database.transaction() as session:
        snapshot = session.get_one(Snapshot, snapshot_id)
        wanted = flow.core.configuration.get_bool(session, BACKUP)
        there = images.of_owner(session, "Snapshot", snapshot_id)
        if snapshot.pool is None or not (wanted and image_stores.of_zone(session, snapshot.zone_id)):
            return
        source = volume_rows.snapshot_file(snapshot)
        try:
            image = there[0] if there else _image(session, snapshot)
        except ApiError as error:
            _stays(session, snapshot, error)
            return
        snapshot.state = "BackingUp"
        image_id = image.id
    try:
        send(flow, image_id, source)
    except ApiError as error:
        with flow.core.database.transaction() as session:
            snapshot = session.get_one(Snapshot, snapshot_id)
            snapshot.state = "BackedUp"
            images.remove(session, session.get_one(StoredImage, image_id))
            _stays(session, snapshot, error)
        flow.core.storage_changed.set()
        return
    with flow.core.database.transaction() as session:
        snapshot, image = session.get_one(Snapshot, snapshot_id), session.get_one(StoredImage, image_id)
        snapshot.state, snapshot.pool_id, snapshot.path, snapshot.detail = "BackedUp", None, "", None
        snapshot.physical_size = image.physical_size or 0
    flow.core.hypervisor.volumes.remove(source)


def _stays(session: Session, snapshot: Snapshot, error: ApiError) -> None:
    snapshot.detail = f"it stays on primary storage: {error.text}"
    transfers.warn(session, snapshot, f"snapshot {snapshot.name} stays on primary storage: {error.text}")


def _image(session: Session, snapshot: Snapshot) -> StoredImage:
    return images.create(session, owner_type="Snapshot", owner_id=snapshot.id, zone=snapshot.zone, format="qcow2")


def forget(flow: Flow, owner_type: str, owner_id: str) -> None:
    """Remove the images of something that is deleted."""
    with flow.core.database.transaction() as session:
        found = images.of_owner(session, owner_type, owner_id)
        for image in found:
            images.remove(session, image)
    if found:
        flow.core.storage_changed.set()


def put(flow: Flow, snapshot_id: str, target: Path) -> None:
    """Make a disk of a snapshot, wherever that is. Raises ApiError."""
    with flow.core.database.reading() as session:
        snapshot = session.get_one(Snapshot, snapshot_id)
        if snapshot.removed is not None:
            raise ApiError("the snapshot is gone; it was deleted meanwhile")
        source = volume_rows.snapshot_file(snapshot) if snapshot.pool is not None else None
        image = images.ready(session, "Snapshot", snapshot_id, snapshot.zone_id)
    if source is not None:
        flow.core.hypervisor.volumes.copy(source, target)
    elif image is not None:
        fetch(flow, image, target)
    else:
        raise ApiError("the snapshot is in no image store; see listImageStores")


def create_template(
    flow: Flow, template_id: str, image_id: str, snapshot_id: str | None = None, volume_id: str | None = None
) -> None:
    """Workflow: make a new template of a snapshot, or of a volume that nothing uses. A failure removes it."""
    try:
        if snapshot_id is not None:
            flow.step("send", _send_snapshot, image_id, snapshot_id)
        elif volume_id is not None:
            flow.step("send", _send_volume, image_id, volume_id)
    except ApiError:
        flow.step("give up", _give_up, template_id)
        raise


def _send_snapshot(flow: Flow, image_id: str, snapshot_id: str) -> None:
    with flow.core.database.reading() as session:
        snapshot = session.get_one(Snapshot, snapshot_id)
        there = images.ready(session, "Snapshot", snapshot_id, snapshot.zone_id)
        source = volume_rows.snapshot_file(snapshot) if snapshot.pool is not None else None
    if source is not None:
        send(flow, image_id, source)
        return
    if there is None:
        raise ApiError("the snapshot is in no image store; see listImageStores")
    exchange.convert(flow, image_id, store_id=there.store_id, path=there.path, format=there.format)


def _send_volume(flow: Flow, image_id: str, volume_id: str) -> None:
    with flow.core.database.reading() as session:
        volume = session.get_one(Volume, volume_id)
        vm_id, source = volume.vm_id, volume_rows.file_of(volume)
    place = exchange.place(flow, f"{image_id}.qcow2")
    # its VM, or who attaches it, waits for the copy and not for the SSVM
    with flow.locks.of(vm_id or volume_id):
        if not flow.still(vm_id):
            raise ApiError("the virtual machine runs; stop it, or make a snapshot of its volume first")
        flow.core.hypervisor.volumes.copy(source, place)
    send(flow, image_id, source)


def extract_volume(flow: Flow, volume_id: str, image_id: str) -> None:
    """Workflow: have a volume in secondary storage, and a link to it there, whose URL the job answers."""
    with flow.core.database.reading() as session:
        ready = session.get_one(StoredImage, image_id).state == "Ready"
    if not ready:
        flow.step("send", _send_volume, image_id, volume_id)
    flow.step("link", _link, image_id)


def _link(flow: Flow, image_id: str) -> None:
    with flow.core.database.transaction() as session:
        image = session.get_one(StoredImage, image_id)
        volume = session.get_one(Volume, image.owner_id)
        made = image_transfers.extract(session, flow.core.configuration, image, volume.name)
        job = session.get_one(AsyncJob, flow.job_id)
        # sealed, as everything that must not be read in the database
        arguments = {"volume_id": volume.id, "link_id": made.id, "url": flow.core.secrets.seal_text(made.url)}
        job.completion = {"name": "volume.extracted", "arguments": arguments}
    flow.reconciler.wake(made.ssvm_id)
    flow.reconciler.wait(made.ssvm_id, made.generation, timeout=LINKED, progress=flow.progress)


def _give_up(flow: Flow, template_id: str) -> None:
    with flow.core.database.transaction() as session:
        template = session.get_one(Template, template_id)
        if template.removed is None:
            template_rows.remove(session, template)
    flow.core.storage_changed.set()
