from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import delete

from controlplane.errors import ParameterError
from controlplane.storage import pools, volumes
from controlplane.store.models import DiskOffering, StoragePool, Volume
from tests.rows import Rows
from tests.unit.controlplane.fleet import FakeVolumes


def test_vms_of_before_there_were_volumes_get_theirs(rows: Rows, tmp_path: Path) -> None:
    network = rows.network()
    started, never, gone = (rows.vm(network, name=name) for name in ("started", "never", "gone"))
    gone.state = "Destroyed"
    rows.session.execute(delete(Volume))
    pools.ensure_defaults(rows.session, tmp_path)
    file = tmp_path / f"instances/{started.id}/disk.qcow2"
    file.parent.mkdir(parents=True)
    file.touch()
    for _ in range(2):
        volumes.adopt(rows.session, FakeVolumes({file: 3 << 30}))
    found = {vm.id: volumes.root_of(rows.session, vm.id) for vm in (started, never, gone)}
    assert rows.session.query(Volume).count() == 3
    one, two, three = found[started.id], found[never.id], found[gone.id]
    assert one is not None and (one.state, one.size, volumes.file_of(one)) == ("Ready", 3 << 30, file)
    assert two is not None and (two.state, two.path) == ("Allocated", "")
    assert three is not None and three.state == "Destroy"


def test_zones_that_come_later_have_the_pool_too(rows: Rows) -> None:
    pools.ensure_defaults(rows.session, Path("/a"))
    pools.ensure_defaults(rows.session, Path("/b"))
    [pool] = rows.session.query(StoragePool).all()
    assert (pool.path, pool.is_default, pool.zone_id) == ("/b", True, rows.zone.id)


@pytest.mark.parametrize(
    ("custom", "asked", "gib"),
    [(False, None, 5), (False, 5, 5), (True, 7, 7), (True, None, None), (False, 6, None)],
)
def test_sizes(custom: bool, asked: int | None, gib: int | None) -> None:
    offering = DiskOffering(name="o", is_customized=custom, disk_size=0 if custom else 5)
    if gib is None:
        with pytest.raises(ParameterError, match="size:"):
            volumes.size_of(offering, asked, 100)
    else:
        assert volumes.size_of(offering, asked, 100) == gib << 30
