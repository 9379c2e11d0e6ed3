"""The page as a person sees it: a guest's screen in a real browser, through the proxy, from a real VNC server."""

from __future__ import annotations

import pytest
from playwright.sync_api import Browser

from tests.netns.consoleproxy.browser import page, pixel, wait_state
from tests.netns.consoleproxy.world import COLOUR, PERSON, Screen, World
from tests.wait import wait_for


@pytest.fixture(scope="module")
def screen(world: World) -> Screen:
    return world.screen()


def test_the_screen_is_there(world: World, chromium: Browser, screen: Screen) -> None:
    session, token = world.session(screen.target())
    with page(chromium) as opened:
        opened.goto(world.url(token))
        wait_state(opened, "connected")
        wait_for(lambda: pixel(opened, 300, 200) == COLOUR, 10, "the screen's colour")
        assert opened.locator("#name").inner_text() == "web-01"
        assert token not in opened.url, "no token in the address"
        assert token not in opened.evaluate("() => JSON.stringify([{...sessionStorage}, {...localStorage}])")
        [connected] = world.records(session)
        assert (connected["what"], connected["client"]) == ("connected", PERSON)
    wait_for(lambda: world.records(session, "disconnected"), 10, "the end")
    [gone] = world.records(session, "disconnected")
    assert gone["sent"] > 100
    assert gone["received"] > 20
    assert gone["time"] >= gone["began"]


def test_keys_arrive(world: World, chromium: Browser, screen: Screen) -> None:
    screen.terminal("/run/typed")
    _, token = world.session(screen.target())
    with page(chromium) as opened:
        opened.goto(world.url(token))
        wait_state(opened, "connected")
        wait_for(lambda: pixel(opened, 20, 100) == (255, 255, 255), 10, "the terminal")
        opened.locator("#screen canvas").click(position={"x": 60, "y": 60})
        opened.keyboard.type("echo Hello {1} @home")
        opened.keyboard.press("Enter")
        wait_for(lambda: world.servers.ok(["test", "-e", "/run/typed"]), 10, "the typed line")
    assert world.servers.read("/run/typed") == "echo Hello {1} @home"
