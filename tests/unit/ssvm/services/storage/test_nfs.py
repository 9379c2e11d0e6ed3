"""What is mounted for the stores of a document."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from appliance.settings import Settings
from ssvm.services.storage.model.section import Storage
from ssvm.services.storage.model.stores import NfsStore
from ssvm.services.storage.nfs import Exports, mounts
from ssvm.services.storage.render import render
from ssvm.stores.base import StoreError
from ssvm.stores.directory import Export
from tests.unit.ssvm.states import state

SETTINGS = Settings(config_dir=Path("/c"), run_dir=Path("/r"), state_dir=Path("/s"))
STORE = {"kind": "nfs", "id": "sec-1", "server": "10.9.0.1", "export": "/export/secondary"}


def test_a_store_is_a_mount_point_that_the_worker_may_write_to() -> None:
    wanted = mounts(Storage.model_validate({"stores": [STORE]}), SETTINGS)
    [(where, (store, mount))] = wanted.items()
    assert (str(where), store.id, mount.what, mount.type) == (
        "/r/nfs/sec-1",
        "sec-1",
        "10.9.0.1:/export/secondary",
        "nfs4",
    )
    assert {"vers=4.1", "addr=10.9.0.1", "port=2049", "nosuid", "nodev", "noexec"} <= set(mount.options.split(","))
    # with and without exports, which come and go without a restart
    for stores in ([STORE], []):
        assert Path("/r/nfs") in render(state(stores=stores), SETTINGS).units[0].writable


def test_nothing_is_looked_for_without_such_stores() -> None:
    assert Exports().missing(Storage(), SETTINGS) is None
    assert mounts(None, SETTINGS) == {}


@pytest.mark.parametrize("export", ["export", "/a/../b", "/a,vers=3", "/a b", "/a\n", ""])
def test_exports_that_are_none(export: str) -> None:
    with pytest.raises(ValidationError) as caught:
        NfsStore.model_validate({**STORE, "export": export})
    assert "/export/secondary" in str(caught.value)


def test_what_is_not_mounted_is_not_written_to(tmp_path: Path) -> None:
    store = Export(NfsStore.model_validate(STORE), tmp_path)
    for use in (store.capacity, lambda: store.size("a"), lambda: store.delete("a")):
        with pytest.raises(StoreError, match="export/secondary is not mounted"):
            use()
    assert list(tmp_path.iterdir()) == []
