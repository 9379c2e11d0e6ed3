"""RouterState: valid documents, and the rules between sections."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from appliance.engine.parse import Parser
from appliance.schema.problems import explain
from router.document import RouterDocument, RouterState
from tests.documents import add_rules, document, small_state
from tests.unit.router.refused import assert_refused, problems
from tests.unit.router.strategies import states

many = settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large], deadline=None)


def test_the_small_document_is_valid() -> None:
    state = RouterDocument.model_validate(document(small_state())).state
    assert [str(address) for address in state.interfaces.public_addresses()] == [
        "203.0.113.2",
        "203.0.113.3",
        "203.0.113.4",
    ]


@pytest.mark.parametrize("section", ["dhcp", "nat", "firewall", "metadata", "passwords", "accounting"])
def test_every_section_but_interfaces_may_be_absent(section: str) -> None:
    state = small_state()
    del state[section]
    assert getattr(RouterState.model_validate(state), section) is None


def test_hostname_and_interfaces_are_required() -> None:
    raw = document({})
    with pytest.raises(ValidationError) as caught:
        RouterDocument.model_validate(raw)
    assert explain(caught.value, raw) == [("hostname", "Field required"), ("interfaces", "Field required")]


FORWARD = {
    "id": "forward-9",
    "address": "203.0.113.9",
    "protocol": "tcp",
    "ports": {"first": 80, "last": 80},
    "guest": "10.1.1.10",
    "guest_ports": {"first": 80, "last": 80},
}


@pytest.mark.parametrize(
    ("path", "value", "field", "message"),
    [
        ("tunnels", {}, "tunnels", "Extra inputs"),
        ("dhcp.networks.0.gateway", "10.1.1.2", "dhcp.networks.0.gateway", "10.1.1.2 is not on eth0"),
        ("nat.source.0.interface", "eth2", "nat.source.0.interface", "eth2 is not a guest interface"),
        ("nat.source.0.address", "203.0.113.9", "nat.source.0.address", "203.0.113.9 is not an address of a public"),
        ("nat.source.0.address", "10.1.1.1", "nat.source.0.address", "10.1.1.1 is not an address of a public"),
        ("nat.static.0.address", "203.0.113.9", "nat.static.0.address", "203.0.113.9 is not an address of a public"),
        ("nat.forwards.+", FORWARD, "nat.forwards.2.address", "forward-9: 203.0.113.9 is not an address of a public"),
        ("firewall.ingress.0.address", "203.0.113.9", "firewall.ingress.0.address", "ingress-1: 203.0.113.9 is not"),
        ("metadata.interfaces.+", "eth1", "metadata.interfaces.1", "eth1 is not a guest interface"),
        ("passwords.interfaces.+", "eth9", "passwords.interfaces.1", "eth9 is not a guest interface"),
        (
            "firewall.egress_defaults.+",
            {"interface": "eth2", "allow": True},
            "firewall.egress_defaults.1.interface",
            "eth2 is not a guest interface",
        ),
    ],
)
def test_rules_between_sections(path: str, value: Any, field: str, message: str) -> None:
    assert_refused(path, value, field, message)


def test_every_use_of_a_missing_interface_is_told() -> None:
    fields = {field for field, _ in problems("interfaces.interfaces.0.name", "eth7")}
    assert fields == {
        "dhcp.networks.0.interface",
        "nat.source.0.interface",
        "firewall.egress_defaults.0.interface",
        "metadata.interfaces.0",
        "passwords.interfaces.0",
    }


def test_a_document_of_ten_thousand_rules() -> None:
    state = small_state()
    add_rules(state, 10_000)
    parser = Parser("router", RouterDocument)
    first = parser.parse(json.dumps(document(state)).encode()).state
    state["nat"]["forwards"][7000]["guest"] = "10.1.1.11"
    second = parser.parse(json.dumps(document(state)).encode()).state
    assert first.nat and second.nat
    pairs = zip(first.nat.forwards, second.nat.forwards, strict=True)
    assert [forward.id for known, forward in pairs if known is not forward] == [second.nat.forwards[7000].id]


@many
@given(states())
def test_any_valid_state_survives_the_journey_as_json(raw: dict[str, Any]) -> None:
    """Control plane to appliance: model, JSON, model; the second arrival takes over what is known of the first."""
    sent = RouterState.model_validate(raw)
    text = sent.model_dump_json()
    parser = Parser("router", RouterDocument)
    for generation in (1, 2):
        received = parser.parse(json.dumps(document(json.loads(text), generation)).encode()).state
        assert received == sent
        assert received.model_dump_json() == text


@many
@given(states(), st.data())
def test_one_spoiled_value_is_refused_or_harmless(raw: dict[str, Any], data: st.DataObject) -> None:
    """No value anywhere makes anything but an ordinary validation error, and its place can be told."""
    junk = st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(max_size=5),
        st.just([]),
        st.just({}),
        st.just([[]]),
    )
    target: Any = raw
    while True:
        keys = list(target) if isinstance(target, dict) else list(range(len(target)))
        key = data.draw(st.sampled_from(keys))
        if not isinstance(target[key], dict | list) or not target[key] or data.draw(st.booleans()):
            break
        target = target[key]
    target[key] = data.draw(junk)
    envelope = document(raw)
    try:
        RouterDocument.model_validate(envelope)
    except ValidationError as error:
        assert all(isinstance(field, str) and message for field, message in explain(error, envelope))
