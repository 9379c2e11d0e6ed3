"""Which packets of balanced connections pass: what the firewall's rules and source NAT come to."""

from __future__ import annotations

from typing import Any

import pytest

from router.document import RouterState
from router.services.loadbalancer.ruleset import ruleset
from tests.unit.router.services.loadbalancer.documents import balanced_state

ADDRESS = "203.0.113.4"


def _ruleset(ingress: list[dict[str, Any]] | None = None, source: str = "203.0.113.2", port: int = 80) -> Any:
    raw = balanced_state()
    rules = [
        {"id": f"i{number}", "address": ADDRESS, "protocol": "tcp", **rule} for number, rule in enumerate(ingress or [])
    ]
    raw["firewall"]["ingress"] = rules
    raw["nat"]["source"][0]["address"] = source
    raw["loadbalancer"]["rules"][0]["port"] = port
    state = RouterState.model_validate(raw)
    assert state.loadbalancer is not None
    return ruleset(state.loadbalancer, state)


@pytest.mark.parametrize(
    ("rule", "way"),
    [
        ({"ports": {"first": 80, "last": 80}}, "open"),
        ({"ports": {"first": 70, "last": 80}}, "open"),
        ({}, "open"),
        ({"sources": ["0.0.0.0/0"]}, "open"),
        ({"sources": ["192.0.2.0/24"]}, "asked"),
        ({"ports": {"first": 81, "last": 90}}, "asked"),
        ({"protocol": "udp"}, "asked"),
        ({"address": "203.0.113.2"}, "asked"),
    ],
)
def test_ports_that_everyone_may_use_are_one_look_up(rule: dict[str, Any], way: str) -> None:
    assert _ruleset([rule]).sets["loadbalancer_ways"].elements[f"{ADDRESS} . 80"] == f"goto loadbalancer_{way}"


@pytest.mark.parametrize(("port", "range"), [(80, "1024-65535"), (20000, "20001-65535"), (50000, "1024-49999")])
def test_source_nat_keeps_out_of_balanced_ports(port: int, range: str) -> None:
    [(_, rule)] = _ruleset(source=ADDRESS, port=port).rules["nat_outbound"]
    assert f", {port}" in rule or f"{{ {port}" in rule
    assert rule.endswith(f"snat ip to {ADDRESS}:{range}")


def test_source_nat_of_another_address_needs_nothing() -> None:
    assert "nat_outbound" not in _ruleset().rules
