"""The shaping section."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from appliance.schema.problems import explain
from appliance.services.shaping.service import shapes
from router.document import RouterState
from tests.documents import small_state


def shaped(*interfaces: dict[str, Any]) -> dict[str, Any]:
    return {**small_state(), "shaping": {"interfaces": list(interfaces)}}


def test_every_interface_but_control_has_a_shape() -> None:
    raw = shaped({"interface": "eth2", "mbit": 200})
    raw["interfaces"]["interfaces"][2]["mtu"] = 9000
    found = shapes(RouterState.model_validate(raw))
    assert [(one.interface, one.mbit, one.limited, one.mtu) for one in found] == [
        ("eth0", 0, False, 1500),
        ("eth2", 200, True, 9000),
    ]
    assert shapes(None) == ()


@pytest.mark.parametrize(
    ("interfaces", "field", "message"),
    [
        ([{"interface": "eth0", "mbit": 0}], "shaping.interfaces.0.mbit", "greater than or equal to 1"),
        ([{"interface": "eth0", "mbit": 32_001}], "shaping.interfaces.0.mbit", "less than or equal to 32000"),
        ([{"interface": "eth0", "mbit": "10"}], "shaping.interfaces.0.mbit", "valid integer"),
        ([{"interface": "eth1", "mbit": 10}], "shaping.interfaces.0.interface", "eth1 is not a guest, public"),
        ([{"interface": "eth9", "mbit": 10}], "shaping.interfaces.0.interface", "eth9 is not a guest, public"),
        (
            [{"interface": "eth0", "mbit": 10}, {"interface": "eth0", "mbit": 20}],
            "shaping.interfaces.1.interface",
            "eth0 has two rates",
        ),
    ],
)
def test_refused(interfaces: list[dict[str, Any]], field: str, message: str) -> None:
    raw = shaped(*interfaces)
    with pytest.raises(ValidationError) as caught:
        RouterState.model_validate(raw)
    [(where, text)] = explain(caught.value, raw)
    assert where == field
    assert message in text
