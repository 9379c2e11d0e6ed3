"""The accounting section."""

from __future__ import annotations

import pytest

from router.services.accounting.model import Accounting
from tests.unit.router.refused import assert_refused


def test_an_empty_section_counts_everything() -> None:
    assert Accounting.model_validate({}) == Accounting(guests=True, public=True)


def test_an_address_is_counted_for_one() -> None:
    subjects = [{"id": "ip-1", "address": "203.0.113.2"}, {"id": "ip-2", "address": "203.0.113.2"}]
    assert_refused("accounting.addresses", subjects, "accounting.addresses.1.address", "203.0.113.2 belongs to two")


def test_a_network_is_behind_one_vpn() -> None:
    subjects = [{"id": "a", "networks": ["10.2.0.0/16"]}, {"id": "b", "networks": ["10.3.0.0/16", "10.2.3.0/24"]}]
    assert_refused("accounting.vpn", subjects, "accounting.vpn.1.networks.1", "10.2.3.0/24 overlaps 10.2.0.0/16")


@pytest.mark.parametrize("value", [1, "true", None])
def test_switches_are_booleans(value: object) -> None:
    assert_refused("accounting.guests", value, "accounting.guests", "boolean")
