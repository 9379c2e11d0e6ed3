"""The shared field types: what they take, what they refuse."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from appliance.schema.types import (
    Address,
    Domain,
    Flag,
    Hostname,
    Integer,
    InterfaceAddress,
    InterfaceName,
    MacAddress,
    Mtu,
    Network,
    Port,
    PortRange,
    RuleId,
)

VALID: list[tuple[Any, object, object]] = [
    (InterfaceName, "eth0", "eth0"),
    (InterfaceName, "a" * 15, "a" * 15),
    (MacAddress, "02:00:0A:01:00:FF", "02:00:0a:01:00:ff"),
    (Hostname, "vm-1", "vm-1"),
    (Hostname, "a" * 63, "a" * 63),
    (Domain, "cs1.cloud.example", "cs1.cloud.example"),
    (Port, 65535, 65535),
    (Mtu, 576, 576),
    (Flag, False, False),
]

INVALID: list[tuple[Any, object]] = [
    (InterfaceName, "a" * 16),
    (InterfaceName, ""),
    (InterfaceName, "eth0 oif"),
    (InterfaceName, "eth0\n"),
    (InterfaceName, "0eth"),
    (InterfaceName, "../eth0"),
    (MacAddress, "02:00:0a:01:00"),
    (MacAddress, "02-00-0a-01-00-ff"),
    (MacAddress, "01:00:5e:00:00:01"),
    (MacAddress, "ff:ff:ff:ff:ff:ff"),
    (MacAddress, "02:00:0a:01:00:ff\n"),
    (Hostname, "-vm"),
    (Hostname, "vm-"),
    (Hostname, "a" * 64),
    (Hostname, "vm.example"),
    (Hostname, "vm\n"),
    (Hostname, "vé"),
    (Domain, "a..b"),
    (Domain, "a,b"),
    (Domain, ".".join(["a" * 60] * 4)),
    (Domain, "a.example\naddress=/x/1.2.3.4"),
    (Address, "10.0.0.256"),
    (Address, "10.0.0.1/24"),
    (Address, "::1"),
    (Address, 167772161),
    (Address, True),
    (Address, b"\x0a\x00\x00\x01"),
    (Address, "10.0.0.1 "),
    (Address, "010.0.0.1"),
    (Network, "10.0.0.1/24"),
    (Network, 5),
    (Network, ["10.0.0.0", 24]),
    (InterfaceAddress, "10.0.0.1/33"),
    (InterfaceAddress, "10.0.0.1"),
    (InterfaceAddress, 5),
    (InterfaceAddress, ["10.0.0.1", 24]),
    (Port, 0),
    (Port, 65536),
    (Port, True),
    (Port, "80"),
    (Port, 80.0),
    (Integer, True),
    (Integer, "1"),
    (Flag, 1),
    (Flag, "off"),
    (Mtu, 575),
    (RuleId, ""),
    (RuleId, "a" * 65),
    (RuleId, "a b"),
    (RuleId, "a\n"),
    (RuleId, 'a"'),
]


@pytest.mark.parametrize(("kind", "value", "expected"), VALID)
def test_accepted(kind: Any, value: object, expected: object) -> None:
    assert TypeAdapter(kind).validate_python(value) == expected


@pytest.mark.parametrize(("kind", "value"), INVALID)
def test_refused(kind: Any, value: object) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(kind).validate_python(value)


def test_port_range_is_ordered_and_inclusive() -> None:
    assert len(PortRange(first=80, last=80)) == 1
    assert len(PortRange(first=1, last=65535)) == 65535
    assert str(PortRange(first=80, last=80)) == "80"
    assert str(PortRange(first=80, last=90)) == "80-90"
    with pytest.raises(ValidationError, match=r"last \(79\) must not be below first \(80\)"):
        PortRange(first=80, last=79)


@given(st.text(max_size=80))
def test_no_text_breaks_out_of_a_configuration_line(text: str) -> None:
    """Whatever the name types accept can stand in a dnsmasq or nft line as it is."""
    for kind in (InterfaceName, MacAddress, Hostname, Domain, RuleId):
        try:
            value = TypeAdapter(kind).validate_python(text)
        except ValidationError:
            continue
        assert value.isascii() and not set(value) & set(" \t\r\n\"'#;{},\\$`/")
