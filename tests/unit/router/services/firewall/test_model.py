"""The firewall section: what is refused, and where the error points."""

from __future__ import annotations

from typing import Any

import pytest

from router.services.firewall.model import Firewall
from tests.unit.router.refused import assert_refused

INGRESS = {"id": "i", "address": "203.0.113.2", "protocol": "tcp"}
EGRESS = {"id": "e", "interface": "eth0", "protocol": "tcp"}
PORTS = {"first": 80, "last": 90}


@pytest.mark.parametrize(
    ("path", "value", "field", "message"),
    [
        ("ingress.+", {**INGRESS, "id": "ingress-1"}, "ingress.2.id", "ingress-1 is given twice"),
        ("ingress.+", {**INGRESS, "protocol": "all"}, "ingress.2.protocol", "i: "),
        ("ingress.+", {**INGRESS, "sources": ["0.0.0.0/0", "10.0.0.1/8"]}, "ingress.2.sources.1", "IPv4 network"),
        ("ingress.+", {**INGRESS, "protocol": "icmp", "ports": PORTS}, "ingress.2.ports", "i: goes with protocol tcp"),
        ("ingress.+", {**INGRESS, "icmp_type": 8}, "ingress.2.icmp_type", "i: goes with protocol icmp, not tcp"),
        ("ingress.+", {**INGRESS, "protocol": "icmp", "icmp_code": 0}, "ingress.2.icmp_code", "needs icmp_type"),
        ("ingress.+", {**INGRESS, "protocol": "icmp", "icmp_type": 256}, "ingress.2.icmp_type", "255"),
        ("ingress.+", {**INGRESS, "protocol": "icmp", "icmp_type": -1}, "ingress.2.icmp_type", "0"),
        ("egress.+", {**EGRESS, "id": "egress-1"}, "egress.1.id", "egress-1 is given twice"),
        ("egress.+", {**EGRESS, "interface": "eth2"}, "egress.1.interface", "e: eth2 has no egress default"),
        ("egress.+", {**EGRESS, "protocol": "all", "ports": PORTS}, "egress.1.ports", "not all"),
        ("egress.+", {**EGRESS, "destinations": "0.0.0.0/0"}, "egress.1.destinations", "tuple"),
        ("egress_defaults.+", {"interface": "eth0", "allow": True}, "egress_defaults.1.interface", "already"),
        ("egress_defaults.0.allow", "off", "egress_defaults.0.allow", "boolean"),
    ],
)
def test_refused(path: str, value: Any, field: str, message: str) -> None:
    assert_refused(f"firewall.{path}", value, f"firewall.{field}", message)


def test_every_kind_of_rule() -> None:
    section = Firewall.model_validate(
        {
            "ingress": [
                {**INGRESS, "id": "1"},
                {**INGRESS, "id": "2", "ports": PORTS},
                {**INGRESS, "id": "3", "protocol": "icmp"},
                {**INGRESS, "id": "4", "protocol": "icmp", "icmp_type": 0, "icmp_code": 0},
            ],
            "egress": [{**EGRESS, "protocol": "all"}],
            "egress_defaults": [{"interface": "eth0", "allow": True}],
        }
    )
    assert [rule.icmp_type for rule in section.ingress] == [None, None, None, 0]
    assert section.egress[0].sources == ()


def test_ingress_and_egress_ids_are_separate() -> None:
    defaults = [{"interface": "eth0", "allow": False}]
    Firewall.model_validate({"ingress": [INGRESS], "egress": [{**EGRESS, "id": "i"}], "egress_defaults": defaults})
