"""The load balancer section: what is refused, and where the error points."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from appliance.schema.problems import explain
from router.document import RouterDocument
from tests.documents import document
from tests.unit.router.services.loadbalancer.documents import balanced_state


@pytest.mark.parametrize(
    ("rule", "values", "field", "message"),
    [
        (0, {"id": "cookie"}, "rules.1.id", "cookie is given twice"),
        (1, {"port": 80}, "rules.1.port", "port 80 of 203.0.113.4 has a rule already"),
        (0, {"interface": "eth2"}, "rules.0.interface", "eth2 is not a guest interface"),
        (0, {"address": "203.0.113.9"}, "rules.0.address", "is not an address of a public"),
        (0, {"address": "203.0.113.3"}, "rules.0.address", "203.0.113.3 is in use by static NAT"),
        (0, {"address": "203.0.113.2", "port": 2222}, "rules.0.port", "is forwarded to a guest"),
        (0, {"members": [{"address": "10.1.1.10", "port": 1}] * 2}, "rules.0.members.1", "is a member already"),
        (0, {"certificates": ["c1"]}, "rules.0.certificates", "go with protocol ssl"),
        (4, {"certificates": []}, "rules.4.certificates", "needs a certificate"),
        (4, {"certificates": ["c1", "c1"]}, "rules.4.certificates.1", "c1 is given twice"),
        (4, {"certificates": ["c9"]}, "rules.4.certificates.0", "there is no certificate c9"),
        (0, {"health": {"path": "ping"}}, "rules.0.health.path", "pattern"),
        (0, {"health": {"path": "/$HOME"}}, "rules.0.health.path", "pattern"),
        (0, {"protocol": "udp"}, "rules.0.protocol", "tcp"),
        (0, {"algorithm": "random"}, "rules.0.algorithm", "roundrobin"),
    ],
)
def test_what_is_refused(rule: int, values: dict[str, Any], field: str, message: str) -> None:
    raw = balanced_state()
    raw["loadbalancer"]["rules"][rule] |= values
    [(told, text)] = _problems(raw)
    assert told == f"loadbalancer.{field}"
    assert message in text


@pytest.mark.parametrize(
    "values",
    [
        {"method": "Magic"},
        {"method": "LbCookie", "cookie_name": "a b"},
        {"method": "LbCookie", "cookie_name": "a", "mode": "rewrite", "postonly": True},
        {"method": "LbCookie", "cookie_name": "a", "mode": "prefix", "indirect": True},
        {"method": "LbCookie", "cookie_name": "a", "domains": ["a;b"]},
        {"method": "AppCookie", "cookie_name": "a", "length": 0},
        {"method": "AppCookie", "cookie_name": "a", "mode": "insert"},
        {"method": "AppCookie"},
        {"method": "SourceBased", "table_size": 0},
        {"method": "SourceBased", "expire": 0},
    ],
)
def test_stickiness_that_is_refused(values: dict[str, Any]) -> None:
    raw = balanced_state()
    raw["loadbalancer"]["rules"][0]["stickiness"] = values
    [(field, _)] = _problems(raw)
    assert field.startswith("loadbalancer.rules.0.stickiness")


def test_a_forward_of_the_same_port_by_udp_is_no_conflict() -> None:
    raw = balanced_state()
    raw["loadbalancer"]["rules"][0] |= {"port": 5000}  # forward-2 has it by UDP
    RouterDocument.model_validate(document(raw))


def test_keys_do_not_show() -> None:
    assert "PEM 1" not in repr(RouterDocument.model_validate(document(balanced_state())))


def _problems(state: dict[str, Any]) -> list[tuple[str, str]]:
    raw = document(state)
    with pytest.raises(ValidationError) as caught:
        RouterDocument.model_validate(raw)
    return explain(caught.value, raw)
