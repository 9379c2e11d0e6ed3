"""A world of each test module's own, and one browser in it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.netns.consoleproxy.browser import browser
from tests.netns.consoleproxy.world import World, build
from tests.netns.lab import Lab


@pytest.fixture(scope="module")
def world(lab: Lab) -> World:
    return build(lab)


@pytest.fixture(scope="module")
def chromium(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    inside = world.lab.hypervisor.command(world.person.id, [])
    with browser(inside, Path(tmp_path_factory.mktemp("chromium"))) as running:
        yield running
