"""Images on their way to primary storage, with an SSVM that is played by hand."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select

from controlplane.errors import ApiError
from controlplane.imagestores import images, shares
from controlplane.store.models import ImageStore, StorageJob, StoredImage, Template, Vm, Volume, now
from controlplane.templates import primary
from controlplane.workflows import templates
from controlplane.workflows.flow import Flow, Locks
from tests.unit.controlplane.fleet import Fleet
from tests.wait import wait_for


@pytest.fixture
def flow(fleet: Fleet, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Flow:
    monkeypatch.setattr(fleet.hypervisor, "images", lambda: tmp_path / "images")
    shares.exchange(fleet.hypervisor).mkdir(parents=True)
    return Flow(fleet.core, fleet.reconciler, Locks(), None, lambda _name, function: function())


def template(fleet: Fleet, format: str = "qcow2") -> tuple[str, str]:
    """A template that is ready in secondary storage: its id and its zone's."""
    with fleet.database.transaction() as session:
        rows = fleet.in_session(session)
        zone_id = rows.zone.id
        rows.add(ImageStore(name="s", zone_id=zone_id, provider="Local", url="file:///srv/s"))
        row = rows.add(
            Template(
                name="debian",
                display_text="d",
                zone_id=zone_id,
                account_id=rows.account.id,
                hypervisor="Fake",
                format="QCOW2",
                image="the-image",
            )
        )
        made = images.create(session, owner_type="Template", owner_id=row.id, zone=rows.zone, format=format)
        made.state = "Ready"
        return row.id, zone_id


def job(fleet: Fleet) -> StorageJob:
    def there() -> StorageJob | None:
        with fleet.database.reading() as session:
            return session.scalars(select(StorageJob).where(StorageJob.ended.is_(None))).one_or_none()

    found = wait_for(there, 10, "the job")
    assert found is not None
    return found


def end(fleet: Fleet, id: str, state: str, message: str | None = None) -> None:
    with fleet.database.transaction() as session:
        row = session.get_one(StorageJob, id)
        row.state, row.message, row.ended = state, message, now()


def apart(work: Callable[[], None]) -> tuple[threading.Thread, list[Exception]]:
    errors: list[Exception] = []

    def run() -> None:
        try:
            work()
        except ApiError as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, errors


@pytest.mark.parametrize(("format", "target"), [("qcow2", None), ("vmdk", "qcow2")])
def test_an_image_is_brought_once_as_qcow2(fleet: Fleet, flow: Flow, format: str, target: str | None) -> None:
    id, zone_id = template(fleet, format)
    both = [apart(lambda: templates.bring(flow, id, zone_id)) for _ in range(2)]
    asked = job(fleet)
    assert (asked.kind, asked.store_id) == ("convert", shares.EXCHANGE)
    assert (asked.fields["format"], asked.fields.get("target_format")) == (format, target)
    assert fleet.core.storage_changed.wait(5), "set after the commit that showed the job"
    assert fleet.hypervisor.templates == set()
    end(fleet, asked.id, "done")
    for thread, errors in both:
        thread.join(10)
        assert errors == []
    assert fleet.hypervisor.templates == {"the-image"}
    with fleet.database.reading() as session:
        assert len(session.scalars(select(StorageJob)).all()) == 1


def test_what_cannot_be_brought_says_why_and_leaves_nothing(fleet: Fleet, flow: Flow) -> None:
    id, zone_id = template(fleet)
    thread, errors = apart(lambda: templates.bring(flow, id, zone_id))
    asked = job(fleet)
    left = shares.exchange(fleet.hypervisor) / asked.path
    left.write_text("half")
    end(fleet, asked.id, "failed", "the store is full")
    thread.join(10)
    assert "debian" in str(errors[0]) and "the store is full" in str(errors[0])
    assert not left.exists() and fleet.hypervisor.templates == set()


def test_what_the_hypervisor_has_by_itself_needs_no_ssvm(fleet: Fleet, flow: Flow) -> None:
    with fleet.database.reading() as session:
        own = session.scalars(select(Template)).one()
        zone_id = fleet.rows.zone.id
    templates.bring(flow, own.id, zone_id)
    with fleet.database.reading() as session:
        assert session.scalars(select(StorageJob)).all() == []


def test_a_deleted_template_leaves_primary_storage_after_its_last_guest(fleet: Fleet, flow: Flow) -> None:
    id, _ = template(fleet)
    fleet.hypervisor.templates.add("the-image")
    assert primary.collect(fleet.core) == []
    with fleet.database.transaction() as session:
        rows = fleet.in_session(session)
        rows.template = session.get_one(Template, id)
        vm = rows.vm(rows.network())
        session.get_one(Template, id).removed = now()
        session.scalars(select(StoredImage)).one().removed = now()
        vm_id = vm.id
    assert primary.collect(fleet.core) == []
    with fleet.database.transaction() as session:
        session.get_one(Vm, vm_id).removed = now()
        for volume in session.scalars(select(Volume)):
            volume.removed = now()
    old, new = (shares.exchange(fleet.hypervisor) / name for name in ("old", "new"))
    old.write_text("x")
    new.write_text("x")
    before = (now() - timedelta(days=2)).timestamp()
    os.utime(old, (before, before))
    assert primary.collect(fleet.core) == ["the-image"]
    assert fleet.hypervisor.templates == set()
    assert not old.exists() and new.exists()
