from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.hypervisors.base import HypervisorError, Nic
from controlplane.hypervisors.records import RECORD, Record, Records, decode, encode, write_atomically

NIC = Nic("02:00:00:00:00:01", "guest-1")
RECORD_1 = Record("g-1", "guest", "vm1", (NIC,), 1, 256, "bare")

nics = st.builds(Nic, mac=st.text(), segment=st.text(), addresses=st.lists(st.text()).map(tuple))
records = st.builds(
    Record,
    id=st.text(),
    kind=st.sampled_from(["appliance", "guest"]),
    hostname=st.text(),
    nics=st.lists(nics).map(tuple),
    cpus=st.integers(),
    memory_mb=st.integers(),
    template=st.text(),
)


@pytest.fixture
def store(tmp_path: Path) -> Records:
    return Records(tmp_path)


@given(records)
def test_what_is_written_is_read(record: Record) -> None:
    assert decode(encode(record)) == record


def test_save_load_remove(store: Records) -> None:
    assert store.load("g-1") is None
    store.save(RECORD_1)
    assert store.load("g-1") == RECORD_1
    store.save(RECORD_1.detached(NIC.mac))
    assert store.load("g-1") == RECORD_1.detached(NIC.mac)
    assert list(store.ids()) == ["g-1"]
    store.remove("g-1")
    store.remove("g-1")
    assert list(store.directory.iterdir()) == []


def test_a_nic_is_known_by_its_mac() -> None:
    moved = Nic(NIC.mac, "guest-2")
    assert RECORD_1.attached(moved).nics == (moved,)
    assert RECORD_1.attached(Nic("02:00:00:00:00:02", "guest-1")).detached(NIC.mac).nics[0].mac.endswith("02")


def test_what_a_crash_left_is_swept(store: Records) -> None:
    store.save(RECORD_1)
    for name in (".new-1", ".gone-2"):
        (store.directory / name / "etc").mkdir(parents=True)
    store.sweep()
    assert [path.name for path in store.directory.iterdir()] == ["g-1"]


def test_damage_is_named_and_says_what_to_do(store: Records) -> None:
    store.save(RECORD_1)
    for damage in ("", "{}", "[1]", '{"id": 1, "nics": [{}]}'):
        (store.folder("g-1") / RECORD).write_text(damage)
        with pytest.raises(HypervisorError, match=r"record\.json is damaged .*destroy g-1"):
            store.load("g-1")


@pytest.mark.parametrize("name", ["", "..", "a/b", ".new-1", "a" * 64, "-a"])
def test_an_id_cannot_leave_the_directory(store: Records, name: str) -> None:
    with pytest.raises(HypervisorError, match="cannot be an instance's id"):
        store.folder(name)


def test_atomic_writes_leave_one_private_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomically(path, "one")
    write_atomically(path, "two")
    assert path.read_text() == "two"
    assert path.stat().st_mode & 0o777 == 0o600
    assert [item.name for item in tmp_path.iterdir()] == ["file"]


def test_a_nic_s_addresses_survive() -> None:
    record = RECORD_1.changed(Nic(NIC.mac, NIC.segment, addresses=("10.1.1.5",)))
    assert decode(encode(record)) == record


def test_a_record_from_before_nics_had_addresses_is_read() -> None:
    raw = json.loads(encode(RECORD_1))
    raw["nics"] = [{"mac": NIC.mac, "segment": NIC.segment}]
    assert decode(json.dumps(raw)) == RECORD_1
