"""One world for the data plane's tests; each test pushes the rules it needs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.netns.lab import Lab
from tests.netns.router.world import World, build


@pytest.fixture(scope="module")
def shared_world(lab: Lab) -> World:
    return build(lab)


@pytest.fixture
def world(shared_world: World) -> Iterator[World]:
    """The world with its base state."""
    yield shared_world
    shared_world.router.push(shared_world.state)
