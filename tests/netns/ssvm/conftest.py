"""A world of each test module's own."""

from __future__ import annotations

import pytest

from tests.netns.lab import Lab
from tests.netns.ssvm.world import World, build


@pytest.fixture(scope="module")
def world(lab: Lab) -> World:
    return build(lab)
