"""A virtual machine's screen in a browser outside: through the API, a console proxy that is a machine too, and QEMU."""

from __future__ import annotations

import string
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cs import CloudStack
from playwright.sync_api import Page

from tests.netns.consoleproxy.browser import browser, page, pixel, reach_from_here, wait_state
from tests.netns.controlplane.cloud import Answer
from tests.vm.libvirt.cloud import VirtualCloud, virtual_cloud
from tests.vm.libvirt.vdagent import GuestClipboard
from tests.wait import wait_for

#: seconds for a console proxy to start in emulation, beside a router
START = 400.0
#: colours of a text screen: their numbers in escape sequences, and what they are with six bits of VGA for each part
COLOURS = {44: (0, 0, 168), 42: (0, 168, 0)}
#: characters of an American keyboard that need Shift
_SHIFTED = frozenset('~!@#$%^&*()_+{}|:"<>?' + string.ascii_uppercase)


@dataclass(frozen=True)
class Seat:
    """Somebody outside who has opened a guest's console."""

    cloud: VirtualCloud
    api: CloudStack
    vm: Answer
    page: Page

    def guest(self, script: str) -> str:
        return self.cloud.sh(self.vm["id"], script).stdout

    def reads(self, text: str) -> bool:
        """Whether the last line on the guest's screen ends so."""
        lines = self.guest("fold -w 80 /dev/vcs1").splitlines()
        return next((line.rstrip() for line in reversed(lines) if line.strip()), "").endswith(text)

    def press(self, text: str) -> None:
        """On the keyboard, with Shift where a person needs it, and Enter."""
        self.page.locator("#screen canvas").click(position={"x": 60, "y": 60})
        for character in text:
            self.page.keyboard.press(f"Shift+{character}" if character in _SHIFTED else character)
        self.page.keyboard.press("Enter")

    def touch(self, text: str) -> None:
        """On a phone's keyboard, which tells characters and no keys."""
        self.page.locator("#keyboard").evaluate("(button) => button.click()")
        self.page.keyboard.insert_text(text)
        self.page.keyboard.press("Enter")

    def typed(self, line: str) -> None:
        wait_for(lambda: self.guest("cat /run/typed") == f"{line}\n", 20, f"the line {line}")


@pytest.fixture(scope="module")
def cloud(image: Path, guest_image: Path, acceleration: Path) -> Iterator[VirtualCloud]:
    with virtual_cloud(image, guest_image, acceleration) as made:
        # it starts beside the router
        made.admin.updateConfiguration(name="consoleproxy.minimum", value="1")
        yield made


@pytest.fixture(scope="module")
def seat(cloud: VirtualCloud, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seat]:
    api = cloud.tenant("alice")
    vm = cloud.deploy(api, "web1", cloud.network(api, "net"))
    cloud.plug_outside()
    console = api.createConsoleEndpoint(virtualmachineid=vm["id"])["consoleendpoint"]
    with browser(cloud.outside(), tmp_path_factory.mktemp("browser")) as chromium, page(chromium) as opened:
        reach_from_here(opened, f"http://127.0.0.1:{cloud.port}/**")
        opened.goto(console["url"])
        wait_state(opened, "connected", START)
        yield Seat(cloud, api, vm, opened)


def test_the_page_shows_what_the_guest_shows(seat: Seat) -> None:
    assert seat.page.locator("#name").inner_text() == "web1"
    for number, colour in COLOURS.items():
        seat.guest(f"printf '\\033[{number}m\\033[2J' >/dev/tty1")
        wait_for(lambda: pixel(seat.page, 300, 200) == colour, 20, f"a screen in {colour}")  # noqa: B023
    seat.guest("printf '\\033[0m\\033[2J\\033[H' >/dev/tty1")
    wait_for(lambda: pixel(seat.page, 300, 200) == (0, 0, 0), 20, "a black screen")


def test_who_knows_the_password_logs_in_and_types_a_line(seat: Seat) -> None:
    seat.guest("until grep 'password set' /var/log/credentials.log; do sleep 1; done")
    seat.press("")
    wait_for(lambda: seat.reads("login:"), 20, "the login prompt")
    seat.press("root")
    wait_for(lambda: seat.reads("Password:"), 20, "the question for the password")
    # which nobody wants to type: the page does
    seat.page.click("#clipboard")
    seat.page.select_option("#layout", "us")
    seat.page.fill("#text", f"{seat.vm['password']}\n")
    seat.page.click("#type")
    wait_for(lambda: seat.reads("#"), 20, "the shell's prompt")
    seat.press("echo 'Hello {1} | @home' >/run/typed")
    seat.typed("Hello {1} | @home")
    seat.touch('echo "From a Phone: ~/*" >/run/typed')
    seat.typed("From a Phone: ~/*")


def test_text_is_copied_to_the_guest_and_back(seat: Seat) -> None:
    clipboard = GuestClipboard(lambda script: seat.cloud.sh(seat.vm["id"], script))
    seat.page.click("#clipboard")
    seat.page.fill("#text", "from the browser: ü €")
    seat.page.click("#send")
    assert clipboard.paste() == "from the browser: ü €"
    clipboard.copy("from the guest: ß")
    wait_for(lambda: seat.page.input_value("#text") == "from the guest: ß", 20, "the page's text")


def test_the_console_ends_with_the_guest_and_says_so(seat: Seat) -> None:
    seat.api.destroyVirtualMachine(id=seat.vm["id"], expunge="false")
    wait_state(seat.page, "ended")
    assert seat.page.locator("#heading").inner_text() == "The session is over"
    [session] = seat.api.listConsoleSessions(virtualmachineid=seat.vm["id"], listall="true")["consolesession"]
    wait_for(
        lambda: seat.api.listConsoleSessions(id=session["id"], listall="true")["consolesession"][0]["state"] == "Ended",
        20,
        "the session's end",
    )
