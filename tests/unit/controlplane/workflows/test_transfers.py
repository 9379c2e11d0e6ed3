"""Snapshots on their way to secondary storage, with an SSVM that is not there."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import select

from controlplane.api.views.snapshots import show_snapshots
from controlplane.errors import ApiError
from controlplane.imagestores import jobs as module
from controlplane.storage import snapshots as rows
from controlplane.store.models import Event, ImageStore, Snapshot, StorageJob, StoredImage, Volume
from controlplane.workflows import snapshots, transfers, volumes
from controlplane.workflows.flow import Flow
from tests.unit.controlplane.fleet import Fleet
from tests.unit.controlplane.workflows.test_volumes import fresh, new_volume

ENDED = {"format": "qcow2", "physical_size": 5, "virtual_size": 1 << 30, "checksum": "c", "object_checksum": "o"}


@pytest.fixture
def exchanged(fleet: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A zone with an image store; files of the exchange are real, so that modes can be set."""
    with fleet.database.transaction() as session:
        session.add(ImageStore(name="s", provider="Local", url="file:///s"))
    monkeypatch.setattr(fleet.hypervisor, "images", lambda: tmp_path, raising=False)
    copy = fleet.hypervisor.volumes.copy

    def copied(source: Path, target: Path) -> None:
        copy(source, target)
        if target.is_relative_to(tmp_path):
            target.touch()

    monkeypatch.setattr(fleet.hypervisor.volumes, "copy", copied)
    return tmp_path


def answers(fleet: Fleet, monkeypatch: pytest.MonkeyPatch, failure: str | None = None) -> None:
    """SSVMs end their jobs at once."""

    def wait(_core: object, job_id: str, *_: object) -> StorageJob:
        with fleet.database.transaction() as session:
            job = session.get_one(StorageJob, job_id)
            image = session.get_one(StoredImage, job.subject_id)
            if failure is not None:
                image.state = "Failed"
            elif job.purpose == "image":
                image.state, image.physical_size = "Ready", 5
        if failure is not None:
            raise ApiError(failure)
        return job

    monkeypatch.setattr(module, "wait", wait)


def snapshot_of(fleet: Fleet, flow: Flow) -> tuple[str, str]:
    volume_id = new_volume(fleet)
    volumes.make_volume(fresh(fleet, flow), volume_id)
    with fleet.database.transaction() as session:
        snapshot_id = rows.create(session, session.get_one(Volume, volume_id)).id
    snapshots.create_snapshot(flow, snapshot_id)
    return volume_id, snapshot_id


def test_a_snapshot_leaves_primary_storage_when_it_is_in_secondary(
    fleet: Fleet, flow: Flow, exchanged: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers(fleet, monkeypatch)
    volume_id, snapshot_id = snapshot_of(fleet, flow)
    snapshot = fleet.read(Snapshot, snapshot_id)
    assert (snapshot.state, snapshot.pool_id, snapshot.physical_size) == ("BackedUp", None, 5)
    assert [path.name for path in fleet.hypervisor.volumes.files if "exchange" not in path.parts] == [
        f"{volume_id}.qcow2"
    ]
    assert list((exchanged / "exchange").iterdir()) == []


def test_a_snapshot_stays_where_it_is_when_secondary_storage_fails_and_that_is_told(
    fleet: Fleet, flow: Flow, exchanged: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers(fleet, monkeypatch, "the store is full")
    _, snapshot_id = snapshot_of(fleet, flow)
    snapshot = fleet.read(Snapshot, snapshot_id)
    assert snapshot.state == "BackedUp" and snapshot.pool_id is not None
    assert Path(f"/pool/snapshots/{snapshot_id}.qcow2") in fleet.hypervisor.volumes.files
    with fleet.database.reading() as session:
        [warning] = session.scalars(select(Event).where(Event.level == "WARN"))
    assert "stays on primary storage: the store is full" in warning.description
    with fleet.database.reading() as session:
        [shown] = show_snapshots(session, [session.get_one(Snapshot, snapshot_id)])
    assert shown.status == "it stays on primary storage: the store is full"
    assert list((exchanged / "exchange").iterdir()) == []


def test_with_the_setting_off_snapshots_stay(fleet: Fleet, flow: Flow, exchanged: Path) -> None:
    with fleet.database.transaction() as session:
        fleet.core.configuration.set(session, transfers.BACKUP, "false")
    _, snapshot_id = snapshot_of(fleet, flow)
    assert fleet.read(Snapshot, snapshot_id).pool_id is not None
