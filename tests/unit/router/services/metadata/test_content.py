from __future__ import annotations

import base64
from pathlib import Path

import pytest

from router.services.metadata.content import MOST_INLINE, Guest, Guests, MissingError, line, parse

ITEMS = {"instance-id": "i-1", "public-keys": "one\ntwo", "cloud-domain": ""}


def guest(user_data: bytes | None = None) -> Guest:
    encoded = None if user_data is None else base64.b64encode(user_data).decode()
    address, _, about = line("10.1.1.10", ITEMS, encoded, token=False).encode().partition(b" ")
    assert address == b"10.1.1.10"
    return parse(about, "/nowhere/10.1.1.10")


def test_pages() -> None:
    assert guest(b"\x1f\x8b\0").pages == {
        "/latest/meta-data": b"instance-id\npublic-keys",
        "/latest/meta-data/instance-id": b"i-1",
        "/latest/instance-id": b"i-1",
        "/latest/meta-data/public-keys": b"one\ntwo",
        "/latest/public-keys": b"one\ntwo",
        "/latest/user-data": b"\x1f\x8b\0",
    }


@pytest.mark.parametrize("user_data", [None, b""])
def test_no_user_data_is_no_page(user_data: bytes | None) -> None:
    assert guest(user_data).page("/latest/user-data") is None


def test_item_cannot_pose_as_user_data() -> None:
    about = line("10.1.1.10", {"user-data": "forged"}, None, token=False).encode().partition(b" ")[2]
    assert parse(about, "").page("/latest/user-data") is None


def test_large_user_data_is_read_from_its_file(tmp_path: Path) -> None:
    encoded = base64.b64encode(b"x" * MOST_INLINE).decode()
    (tmp_path / "index").write_text(line("10.1.1.10", ITEMS, encoded, token=True))
    found = Guests(str(tmp_path / "index"), str(tmp_path / "data")).find("10.1.1.10")
    assert found is not None and found.token
    # the two files are replaced one after the other
    with pytest.raises(MissingError):
        found.page("/latest/user-data")
    (tmp_path / "data").mkdir()
    (tmp_path / "data/10.1.1.10").write_text(encoded)
    assert found.page("/latest/user-data") == b"x" * MOST_INLINE


def test_a_replaced_index_is_read_again(tmp_path: Path) -> None:
    index = tmp_path / "index"
    index.write_text(line("10.1.1.10", ITEMS, None, token=False))
    guests = Guests(str(index), "")
    first = guests.find("10.1.1.10")
    assert first is not None and guests.find("10.1.1.10") is first
    assert guests.find("10.1.1.11") is None
    new = tmp_path / "new"
    new.write_text(line("10.1.1.11", {"instance-id": "i-2"}, None, token=False))
    new.rename(index)
    assert guests.find("10.1.1.10") is None
    second = guests.find("10.1.1.11")
    assert second is not None and second.page("/latest/instance-id") == b"i-2"


def test_an_address_is_no_path(tmp_path: Path) -> None:
    (tmp_path / "index").write_text("")
    assert Guests(str(tmp_path / "index"), str(tmp_path)).find("../index") is None
