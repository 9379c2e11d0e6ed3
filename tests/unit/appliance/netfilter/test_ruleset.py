"""Rulesets as data."""

from __future__ import annotations

import pytest

from appliance.netfilter.ruleset import roomy


@pytest.mark.parametrize(
    ("count", "size"), [(0, 1024), (1, 1024), (512, 1024), (513, 2048), (1024, 2048), (10_000, 32_768)]
)
def test_a_roomy_set_has_place_for_twice_its_elements(count: int, size: int) -> None:
    assert roomy(count) == f"size {size};"
