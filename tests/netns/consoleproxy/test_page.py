"""The page as a person sees it: a guest's screen in a real browser, through the proxy, from a real VNC server."""

from __future__ import annotations

import time

import pytest
from playwright.sync_api import Browser, Page

from consoleproxy.services.console.relay.playback import LONGEST_PAUSE
from tests.netns.consoleproxy.browser import page, pixel, wait_state
from tests.netns.consoleproxy.world import COLOUR, PERSON, PROXY, SERVERS, Raw, Screen, World
from tests.wait import wait_for

#: where the relay has what is brought to be played
PLAYBACK = "/var/lib/gatehouse/console/playback"


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


def test_a_page_that_lost_a_part_loads_again(world: World, chromium: Browser, screen: Screen) -> None:
    _, token = world.session(screen.target())
    with page(chromium) as opened:
        opened.route("**/keys.js", lambda route: route.abort("connectionreset"))
        opened.goto(world.url(token))
        wait_for(lambda: opened.locator("#heading").inner_text() == "The page did not load", 10, "what went wrong")
        opened.unroute("**/keys.js")
        wait_state(opened, "connected")


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


def test_text_is_pasted_and_copied(world: World, chromium: Browser, screen: Screen) -> None:
    _, token = world.session(screen.target())
    with page(chromium) as opened:
        opened.goto(world.url(token))
        wait_state(opened, "connected")
        opened.click("#clipboard")
        opened.fill("#text", "from the browser: ü €")
        opened.click("#send")
        wait_for(lambda: screen.clipboard() == "from the browser: ü €", 10, "the guest's clipboard", interval=0.2)
        screen.copy("from the guest")
        wait_for(lambda: opened.input_value("#text") == "from the guest", 10, "the page's text")


def test_text_is_typed_on_the_keyboard_of_the_guest(world: World, chromium: Browser, screen: Screen) -> None:
    screen.terminal("/run/typed-text")
    _, token = world.session(screen.target())
    with page(chromium) as opened:
        opened.goto(world.url(token))
        wait_state(opened, "connected")
        opened.locator("#screen canvas").click(position={"x": 60, "y": 60})
        opened.click("#clipboard")
        opened.select_option("#layout", "us")
        opened.fill("#text", 'if (a != "b") { c[0] = ~d | e & f; }\n')
        opened.click("#type")
        wait_for(lambda: world.servers.ok(["test", "-s", "/run/typed-text"]), 15, "the typed line")
    assert world.servers.read("/run/typed-text") == 'if (a != "b") { c[0] = ~d | e & f; }'


@pytest.mark.parametrize(
    ("layout", "places", "accents"),
    [
        ("us", {"y": "KeyY", "@": "Shift Digit2", "|": "Shift Backslash"}, ""),
        ("gb", {"@": "Shift Quote", "#": "Backslash", "€": "AltGr Digit4"}, ""),
        (
            "de",
            {"y": "KeyZ", "z": "KeyY", "@": "AltGr KeyQ", "{": "AltGr Digit7", "ß": "Minus", "/": "Shift Digit7"},
            "`^",
        ),
        ("fr", {"a": "KeyQ", "q": "KeyA", "1": "Shift Digit1", "@": "AltGr Digit0", "m": "Semicolon"}, "`^~"),
        ("es", {"ñ": "Semicolon", "@": "AltGr Digit2", "/": "Shift Digit7"}, "`^~"),
        ("jp", {"@": "BracketLeft", '"': "Shift Digit2", "_": "Shift IntlRo", "=": "Shift Minus"}, ""),
    ],
)
def test_keyboards_of_guests(
    world: World, chromium: Browser, layout: str, places: dict[str, str], accents: str
) -> None:
    """Where each character's key is, with what is held; keys that only begin an accent are not used."""
    with page(chromium) as opened:
        opened.goto(f"https://{PROXY}/console/")
        wait_state(opened, "ended")
        found = opened.evaluate(
            """async (layout) => {
                const { strokes } = await import("/console/keys.js");
                const ascii = Array.from({ length: 95 }, (_, at) => String.fromCharCode(32 + at));
                return Object.fromEntries([...ascii, ..."€ßñ"].map((one) => {
                    const down = strokes(one, layout).filter((stroke) => stroke[2]);
                    const held = { ShiftLeft: "Shift ", AltRight: "AltGr " };
                    return [one, down.map(([, code]) => held[code] ?? code ?? "").join("")];
                }));
            }""",
            layout,
        )
    assert {character: found[character] for character in places} == places
    assert {one for one in map(chr, range(32, 127)) if not found[one]} == set(accents)


def test_keys_that_a_browser_keeps_for_itself(world: World, chromium: Browser, screen: Screen) -> None:
    """From the menu; a terminal tells them apart by what it gets (xterm's control sequences)."""
    screen.terminal("/run/keys")
    _, token = world.session(screen.target())
    with page(chromium) as opened:
        opened.goto(world.url(token))
        wait_state(opened, "connected")
        opened.locator("#screen canvas").click(position={"x": 60, "y": 60})
        opened.click("#keys")
        opened.click("#ctrl-alt-del")
        opened.click("#keys")
        opened.locator("#held").get_by_text("Shift", exact=True).click()
        for name in ("F5", "F6", "Enter"):
            opened.locator("#presses").get_by_text(name, exact=True).click()
        wait_for(lambda: world.servers.ok(["test", "-s", "/run/keys"]), 10, "the typed line")
    # what is held is let go by the next key
    assert world.servers.read("/run/keys") == "\x1b[3;7~\x1b[15;2~\x1b[17~"


def test_sizes(world: World, chromium: Browser) -> None:
    screen = world.screen()
    _, token = world.session(screen.target())

    def sizes() -> tuple[float, float]:
        """Pixels of the guest across, and points of the page that they take."""
        asked = "(canvas) => [canvas.width, canvas.getBoundingClientRect().width]"
        wide, shown = opened.locator("#screen canvas").evaluate(asked)
        return wide, shown

    with page(chromium, viewport={"width": 500, "height": 400}) as opened:
        opened.goto(world.url(token))
        wait_state(opened, "connected")
        wait_for(lambda: sizes()[0] == 800 and sizes()[1] <= 500, 10, "a screen that fits the window")
        opened.click("#view")
        opened.check("[value=none]")
        wait_for(lambda: sizes() == (500, 500), 10, "a part of the screen in its own size")
        opened.check("[value=remote]")
        shown = ["env", f"DISPLAY=:{screen.number}", "xrandr"]
        wait_for(lambda: "current 500 x " in world.servers.run(shown).stdout, 10, "the guest's screen to fit")
        opened.check("[value=scale]")
        # the whole screen of the person's machine
        button = opened.locator("#fullscreen")
        for pressed in ("true", "false"):
            button.click()
            wait_for(lambda: button.get_attribute("aria-pressed") == pressed, 10, f"full screen: {pressed}")  # noqa: B023
            assert opened.evaluate("() => document.fullscreenElement !== null") == (pressed == "true")
        opened.click("#disconnect")
        wait_state(opened, "ended")
        opened.click("#again")
        wait_state(opened, "connected")


def test_view_only(world: World, chromium: Browser) -> None:
    screen = world.screen()
    screen.terminal("/run/never")
    _, token = world.session(screen.target(), policy={"view_only": True, "clipboard": False})
    with page(chromium) as opened:
        opened.goto(world.url(token))
        wait_state(opened, "connected")
        assert opened.locator("#badge-view").is_visible()
        assert not opened.locator("#keys").is_visible()
        assert not opened.locator("#clipboard").is_visible()
        # the page does not send keys, and the proxy would not pass them on
        screen.copy("the guest's secret")
        wait_for(lambda: screen.clipboard() == "the guest's secret", 10, "the guest's clipboard", interval=0.2)
        opened.locator("#screen canvas").click(position={"x": 60, "y": 60})
        opened.keyboard.type("x")
        opened.keyboard.press("Enter")
        screen.x("xsetroot", "-solid", "#204020")
        wait_for(lambda: pixel(opened, 700, 500) == (32, 64, 32), 10, "a later picture")
        assert opened.input_value("#text") == ""
    assert not world.servers.ok(["test", "-e", "/run/never"])


def test_a_reload_and_a_restart_of_the_proxy_are_no_second_use(world: World, chromium: Browser, screen: Screen) -> None:
    session, token = world.session(screen.target())
    with page(chromium) as opened:
        opened.goto(world.url(token))
        wait_state(opened, "connected")
        opened.reload()
        wait_state(opened, "connected")
        world.proxy.kill("console.relay")
        wait_for(lambda: len(world.records(session, "connected")) == 3, 30, "the page to come back by itself")
        wait_state(opened, "connected")
        world.remove(session)
        wait_state(opened, "ended")
        assert "was ended" in opened.locator("#detail").inner_text()
    with page(chromium) as other:
        other.goto(world.url(token))
        wait_state(other, "ended")
        assert other.locator("#heading").inner_text() == "This link is not valid"


def test_a_link_that_was_used(world: World, chromium: Browser, screen: Screen) -> None:
    _, token = world.session(screen.target())
    with page(chromium) as opened, page(chromium) as other:
        opened.goto(world.url(token))
        wait_state(opened, "connected")
        other.goto(world.url(token))
        wait_state(other, "ended")
        assert other.locator("#heading").inner_text() == "This link was used before"


def test_a_screen_that_is_not_there_yet(world: World, chromium: Browser) -> None:
    # the port of the next screen
    port = 5900 + world.displays + 1
    _, token = world.session({"kind": "vnc", "host": SERVERS, "port": port})
    with page(chromium) as opened:
        opened.goto(world.url(token))
        wait_state(opened, "waiting")
        assert "cannot be reached" in opened.locator("#detail").inner_text()
        world.screen()
        wait_state(opened, "connected")


def test_a_session_is_recorded_and_played_back(world: World, chromium: Browser) -> None:
    screen = world.screen(colour="#802020")
    session, token = world.session(screen.target(), policy={"record": True})
    with page(chromium) as opened:
        opened.goto(world.url(token))
        wait_state(opened, "connected")
        assert opened.locator("#badge-recorded").inner_text() == "Recorded"
        assert "recorded" in opened.locator("#notice").inner_text()
        begun = time.monotonic()
        wait_for(lambda: pixel(opened, 300, 200) == (128, 32, 32), 10, "red")
        # and nothing more until it is green; long pauses are short when it is played
        red = min(time.monotonic() - begun, LONGEST_PAUSE * 0.9)
        screen.x("xsetroot", "-solid", "#208020")
        wait_for(lambda: pixel(opened, 300, 200) == (32, 128, 32), 10, "green")
    name = fetched(world, session)
    play, token = world.session({"kind": "recording", "recording": name})
    for offset in range(0, len(content := world.recordings[name]), 5000):
        world.proxy.agent.write_file("console", name, offset, content[offset : offset + 5000])
    with page(chromium) as opened:
        opened.goto(world.url(token))
        wait_state(opened, "connected")
        assert opened.locator("#badge-playback").is_visible()
        wait_for(lambda: pixel(opened, 300, 200) == (32, 128, 32), 15, "green again")
        opened.click("#play")
        wait_for(lambda: opened.locator("#play").get_attribute("aria-pressed") == "true", 10, "it to stop")
        move(opened, red)
        # back in time, in a new connection
        wait_for(lambda: pixel(opened, 300, 200) == (128, 32, 32), 15, "red again")
        opened.select_option("#speed", "16")
        move(opened, 1000)
        wait_for(lambda: pixel(opened, 300, 200) == (32, 128, 32), 15, "green at the end")
        first, _, last = opened.locator("#time").inner_text().partition(" / ")
        assert first == last
        wait_state(opened, "connected")  # it stands still there
        opened.click("#play")
        wait_for(lambda: opened.locator("#heading").inner_text() == "The recording is over", 15, "its end")
    # it is gone with the session that showed it
    world.remove(play)
    wait_for(lambda: not world.proxy.ok(["test", "-e", f"{PLAYBACK}/{name}.fbs"]), 10, "the copy to go")


def move(opened: Page, to: float) -> None:
    opened.evaluate(
        """(to) => { const moment = document.getElementById("moment"); moment.value = to;
                     for (const name of ["input", "change"]) moment.dispatchEvent(new Event(name)); }""",
        to,
    )


def fetched(world: World, session: str) -> str:
    """Fetch a session's recording as the control plane does; its name."""

    def finished() -> Raw:
        [found] = [one for one in world.report()["recordings"] if one["recording"].startswith(f"{session}.")]
        assert found["finished"]
        return dict(found)

    about = wait_for(finished, 10, "the recording to be finished")
    name, content = str(about["recording"]), b""
    while piece := world.proxy.agent.read_file("console", name, len(content)):
        content += piece
    assert len(content) == about["size"]
    world.proxy.agent.remove_file("console", name)
    assert not any(one["recording"] == name for one in world.report()["recordings"])
    world.recordings[name] = content
    return name


def test_on_a_phone(world: World, chromium: Browser, screen: Screen) -> None:
    screen.terminal("/run/phone")
    _, token = world.session(screen.target())
    with page(chromium, viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True) as opened:
        opened.goto(world.url(token))
        wait_state(opened, "connected")
        box = opened.locator("#screen canvas").bounding_box()
        assert box is not None
        assert box["width"] <= 390, "the screen fits"
        opened.touchscreen.tap(box["x"] + 30, box["y"] + 30)
        opened.tap("#keyboard")
        assert opened.locator("#strip").is_visible()
        opened.keyboard.insert_text("A Phone: {1}")
        opened.keyboard.press("Backspace")
        opened.keyboard.press("Enter")
        wait_for(lambda: world.servers.ok(["test", "-s", "/run/phone"]), 10, "the typed line")
    assert world.servers.read("/run/phone") == "A Phone: {1"


def test_a_restart_of_the_whole_proxy(world: World, chromium: Browser, screen: Screen) -> None:
    session, token = world.session(screen.target())
    with page(chromium) as opened:
        opened.goto(world.url(token))
        wait_state(opened, "connected")
        world.proxy.stop(force=True)
        wait_state(opened, "waiting")
        world.proxy.start()
        wait_for(lambda: len(world.records(session, "connected")) == 2, 60, "the page to come back by itself")
        wait_state(opened, "connected")
