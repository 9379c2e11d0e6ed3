"""The metadata section: what is refused, and where the error points."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from router.services.metadata.model import GuestMetadata
from tests.unit.router.refused import assert_refused

LARGEST = 1024 * 1024


@pytest.mark.parametrize(
    ("path", "value", "field", "message"),
    [
        ("guests.1.id", "vm-1", "guests.1.id", "vm-1 is given to two guests"),
        ("guests.1.address", "10.1.1.10", "guests.1.address", "vm-2: 10.1.1.10 is given to two guests"),
        ("guests.0.items", {"../x": "1"}, "guests.0.items.../x.[key]", "vm-1: "),
        ("guests.0.items", {"a": 1}, "guests.0.items.a", "vm-1: "),
        ("guests.0.user_data", "a", "guests.0.user_data", "vm-1: must be base64"),
        ("guests.0.user_data", "aGVs bG8=", "guests.0.user_data", "vm-1: must be base64"),
        ("guests.0.user_data", "ñ", "guests.0.user_data", "vm-1: must be base64"),
        ("token_required.+", "eth3", "token_required.1", "eth3 is not among interfaces"),
    ],
)
def test_refused(path: str, value: Any, field: str, message: str) -> None:
    assert_refused(f"metadata.{path}", value, f"metadata.{field}", message)


def test_user_data_may_be_one_megabyte_and_not_more() -> None:
    text = base64.b64encode(bytes(LARGEST)).decode()
    assert GuestMetadata.model_validate({"id": "vm", "address": "10.1.1.1", "user_data": text}).user_data == text
    large = base64.b64encode(bytes(LARGEST + 1)).decode()
    assert_refused("metadata.guests.0.user_data", large, "metadata.guests.0.user_data", "at most 1 MB")
