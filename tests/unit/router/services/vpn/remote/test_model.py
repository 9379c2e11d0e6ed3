"""Remote access: what is refused, and where the error points."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from router.document import RouterState
from tests.unit.router.services.vpn.documents import REMOTE, remote_state, vpn_state
from tests.unit.router.services.vpn.test_model import problems


@pytest.mark.parametrize(
    ("values", "field", "message"),
    [
        ({"address": "203.0.113.9"}, "address", "is not an address of a public interface"),
        ({"address": "203.0.113.3"}, "address", "is in use by static NAT"),
        ({"psk": ""}, "psk", "at least 1"),
        ({"clients": {"first": "10.3.1.1", "last": "10.3.1.1"}}, "clients.last", "above first (10.3.1.1)"),
        ({"clients": {"first": "10.3.1.1", "last": "10.3.1.2"}}, "clients.last", "an address for each"),
        ({"clients": {"first": "10.3.1.1", "last": "10.4.1.1"}}, "clients.last", "above first (10.3.1.1)"),
        ({"clients": {"first": "10.1.1.200", "last": "10.1.1.210"}}, "clients", "which clients reach"),
        ({"clients": {"first": "203.0.113.9", "last": "203.0.113.11"}}, "clients", "overlaps the network of eth2"),
        ({"networks": []}, "networks", "at least 1"),
        ({"networks": ["10.9.0.0/24"]}, "networks.0", "no guest interface has an address in"),
        ({"networks": ["10.1.0.0/16", "10.1.1.0/24"]}, "networks.1", "overlaps another one"),
        ({"dns": "10.1.1.2"}, "dns", "is not an address of a guest interface"),
        ({"users": [{"name": "a b", "password": "x"}]}, "users.0.name", "pattern"),
        ({"users": [{"name": "a", "password": 'say "x"'}]}, "users.0.password", "without quotation marks"),
        ({"users": [{"name": "a", "password": "@/etc/shadow"}]}, "users.0.password", "not begin with @"),
        ({"users": [{"name": n, "password": "x"} for n in ("ann", "Ann")]}, "users.1.name", "ann is given twice"),
        ({"l2tp": False, "ikev2": None}, "l2tp", "clients have no way in"),
        ({"ikev2": {**REMOTE["ikev2"], "certificate": "MA=="}}, "ikev2.certificate", "pattern"),
        ({"ikev2": {**REMOTE["ikev2"], "key": "MA=="}}, "ikev2.key", "without a passphrase"),
    ],
)
def test_what_is_refused(values: dict[str, Any], field: str, message: str) -> None:
    raw = remote_state()
    raw["vpn"]["remote"][0] |= values
    told = problems(raw)
    assert any(name == f"vpn.remote.0.{field}" and message in text for name, text in told), told


def test_ports_of_l2tp_cannot_be_forwarded() -> None:
    raw = remote_state()
    raw["vpn"]["remote"][0]["address"] = "203.0.113.4"
    raw["nat"]["forwards"][1] |= {"ports": {"first": 1700, "last": 1709}}
    assert problems(raw) == [("vpn.remote.0.address", "UDP port 1701 of 203.0.113.4 is forwarded to a guest")]
    raw["vpn"]["remote"][0]["l2tp"] = False
    RouterState.model_validate(raw)


def test_clients_have_addresses_of_their_own() -> None:
    raw = vpn_state()
    other = {**copy.deepcopy(REMOTE), "address": "203.0.113.4"}
    raw["vpn"]["remote"] = [copy.deepcopy(REMOTE), other]
    assert problems(raw) == [("vpn.remote.1.clients", "10.3.1.1-10.3.1.20 overlaps the clients of 203.0.113.2")]
    other["clients"] = {"first": "192.168.1.1", "last": "192.168.1.9"}
    assert "behind connection office" in problems(raw)[0][1]
    other["clients"] = {"first": "10.3.1.21", "last": "10.3.1.29"}
    RouterState.model_validate(raw)


def test_secrets_are_in_the_document_and_not_shown() -> None:
    state = RouterState.model_validate(remote_state())
    for secret in ("the key of the clients", "#bob", "BEGIN PRIVATE KEY"):
        assert secret not in repr(state)
        assert secret in state.model_dump_json()
    assert RouterState.model_validate_json(state.model_dump_json()) == state
