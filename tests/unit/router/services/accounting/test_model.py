"""The accounting section."""

from __future__ import annotations

import pytest

from router.services.accounting.model import Accounting
from tests.unit.router.refused import assert_refused


def test_an_empty_section_counts_everything() -> None:
    assert Accounting.model_validate({}) == Accounting(guests=True, public=True)


@pytest.mark.parametrize("value", [1, "true", None])
def test_switches_are_booleans(value: object) -> None:
    assert_refused("accounting.guests", value, "accounting.guests", "boolean")
