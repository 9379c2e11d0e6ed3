"""The envelope of documents and the appliance's identity."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from appliance.schema.envelope import Document, Identity
from appliance.schema.types import Frozen


class Nothing(Frozen):
    pass


VALID: dict[str, Any] = {"kind": "router", "version": 1, "id": "r-12", "generation": 3, "state": {}}


def test_a_valid_envelope() -> None:
    document = Document[Nothing].model_validate(VALID)
    assert (document.kind, document.id, document.generation) == ("router", "r-12", 3)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("kind", "toaster"),
        ("version", 2),
        ("id", ""),
        ("id", "R-12"),
        ("id", "../r-12"),
        ("id", "r-12\n"),
        ("id", "a" * 64),
        ("generation", 0),
        ("generation", "3"),
        ("generation", True),
        ("generation", 3.0),
        ("state", None),
        ("extra", 1),
    ],
)
def test_a_bad_field_is_named(field: str, value: object) -> None:
    with pytest.raises(ValidationError) as caught:
        Document[Nothing].model_validate({**VALID, field: value})
    assert [error["loc"][0] for error in caught.value.errors()] == [field]


IDENTITY: dict[str, Any] = {
    "id": "r-12",
    "role": "router",
    "control": {"mac": "02:00:a9:fe:00:02", "name": "eth1", "address": "169.254.3.7/16"},
}


def test_an_identity() -> None:
    identity = Identity.model_validate(IDENTITY)
    assert identity.port == 9443
    assert str(identity.control.address) == "169.254.3.7/16"


@pytest.mark.parametrize(
    ("field", "value"),
    [("mac", "x"), ("name", "eth1; reboot"), ("address", "169.254.3.7/99"), ("address", "fe80::1/64")],
)
def test_a_bad_control_interface_is_named(field: str, value: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Identity.model_validate({**IDENTITY, "control": {**IDENTITY["control"], field: value}})
    assert [error["loc"] for error in caught.value.errors()] == [("control", field)]
