"""The VPN section: what is refused, and where the error points."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from appliance.schema.problems import explain
from router.document import RouterDocument, RouterState
from tests.documents import document
from tests.unit.router.services.vpn.documents import vpn_state


@pytest.mark.parametrize(
    ("index", "values", "field", "message"),
    [
        (1, {"id": "office"}, "connections.1.id", "office is given twice"),
        (1, {"local": "203.0.113.2", "peer": "198.51.100.9"}, "connections.1.peer", "has a connection to 198.51.100.9"),
        (0, {"local": "203.0.113.9"}, "connections.0.local", "is not an address of a public interface"),
        (0, {"local": "203.0.113.3"}, "connections.0.local", "is in use by static NAT"),
        (0, {"local_networks": ["10.9.0.0/16"]}, "connections.0.local_networks.0", "no guest interface has an address"),
        (0, {"local_networks": []}, "connections.0.local_networks", "at least 1"),
        (0, {"remote_networks": ["10.1.1.128/25"]}, "connections.0.remote_networks.0", "overlaps the local network"),
        (
            0,
            {"remote_networks": ["192.168.0.0/16", "192.168.1.0/24"]},
            "connections.0.remote_networks.1",
            "overlaps another",
        ),
        (0, {"remote_networks": ["198.51.100.0/24"]}, "connections.0.remote_networks.0", "reached through itself"),
        (
            1,
            {"remote_networks": ["192.168.0.0/16"]},
            "connections.1.remote_networks.0",
            "which is behind connection office",
        ),
        (0, {"psk": ""}, "connections.0.psk", "at least 1"),
        (
            0,
            {"esp": {"encryption": "aes128gcm16", "hash": "sha1"}},
            "connections.0.esp.hash",
            "authenticates by itself",
        ),
        (0, {"esp": {"encryption": "aes128", "hash": None}}, "connections.0.esp.hash", "aes128 needs one"),
        (0, {"ike": {"encryption": "aes128gcm16"}}, "connections.0.ike.encryption", "in version ikev2 only"),
        (0, {"ike": {"encryption": "blowfish"}}, "connections.0.ike.encryption", "3des"),
        (0, {"esp": {"encryption": "chacha20poly1305"}}, "connections.0.esp.encryption", "cannot be agreed on"),
        (0, {"peer_id": "%any"}, "connections.0.peer_id", "pattern"),
        (0, {"ike_lifetime": 10}, "connections.0.ike_lifetime", "60"),
    ],
)
def test_what_is_refused(index: int, values: dict[str, Any], field: str, message: str) -> None:
    raw = vpn_state()
    raw["vpn"]["connections"][index] |= values
    told = problems(raw)
    assert any(name == f"vpn.{field}" and message in text for name, text in told), told


def test_ports_of_ike_cannot_be_forwarded() -> None:
    raw = vpn_state()
    raw["vpn"]["connections"][0]["local"] = "203.0.113.4"
    raw["nat"]["forwards"][1] |= {"ports": {"first": 4495, "last": 4504}}
    assert ("vpn.connections.0.local", "office: UDP port 4500 of 203.0.113.4 is forwarded to a guest") in problems(raw)


def test_the_key_is_not_shown() -> None:
    assert "the key of" not in repr(RouterState.model_validate(vpn_state()))


def test_the_key_is_not_in_an_error() -> None:
    raw = vpn_state()
    raw["vpn"]["connections"][0]["psk"] = "x" * 257
    assert "xxx" not in str(problems(raw))


def problems(raw: dict[str, Any]) -> list[tuple[str, str]]:
    whole = document(raw)
    with pytest.raises(ValidationError) as caught:
        RouterDocument.model_validate(whole)
    return explain(caught.value, whole)
