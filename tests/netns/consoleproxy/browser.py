"""Headless Chromium in another network namespace, driven from here by Playwright."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import requests
from playwright.sync_api import Browser, Page, Route, sync_playwright

from tests.wait import wait_for

#: without the last ones it looks for the rest of the world, which is not there
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@contextmanager
def browser(inside: Sequence[str], directory: Path) -> Iterator[Browser]:
    """Chromium where the words ``inside`` run a command; it takes any certificate."""
    program = directory / "chromium"
    program.write_text(f'#!/bin/sh\nexec {shlex.join(inside)} /usr/bin/chromium "$@"\n')
    program.chmod(0o755)
    # an address that becomes usable is a change of network to Chromium, which breaks off what it was loading
    wait_for(
        lambda: not _words(inside, "ip", "-oneline", "address", "show", "tentative"),
        10,
        "addresses that are not tentative",
    )
    with sync_playwright() as playwright:
        # Playwright talks to it over two pipes, which reach into the machine
        running = playwright.chromium.launch(executable_path=program, args=list(FLAGS), timeout=60_000)
        try:
            yield running
        finally:
            running.close()


def _words(inside: Sequence[str], *argv: str) -> list[str]:
    return subprocess.run([*inside, *argv], check=True, capture_output=True, text=True).stdout.split()


@contextmanager
def page(running: Browser, **options: Any) -> Iterator[Page]:
    """A page of a context of its own; what its scripts complain of fails the test."""
    context = running.new_context(ignore_https_errors=True, **options)
    context.set_default_timeout(20_000)
    opened = context.new_page()
    complaints: list[str] = []
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.on("console", lambda text: complaints.append(text.text) if "Content Security Policy" in text.text else None)
    try:
        yield opened
        assert complaints == []
    finally:
        context.close()


def reach_from_here(opened: Page, addresses: str) -> None:
    """What the page asks of ``addresses`` (a pattern) is asked from here: of this machine's loopback, as the API is."""

    def forward(route: Route) -> None:
        asked = route.request
        answer = requests.request(asked.method, asked.url, data=asked.post_data, headers=asked.headers, timeout=20)
        route.fulfill(status=answer.status_code, headers=dict(answer.headers), body=answer.content)

    opened.route(addresses, forward)


def wait_state(opened: Page, state: str, patience: float = 20) -> None:
    """Wait until the console's page is ``connected``, ``waiting`` or ``ended``."""

    def reached() -> bool:
        now = opened.evaluate("() => [document.body.dataset.state, document.getElementById('message').innerText]")
        assert now[0] == state, now
        return True

    wait_for(reached, patience, f"the page to be {state}")


def pixel(opened: Page, x: int, y: int) -> tuple[int, int, int]:
    """Red, green and blue of a point of the guest's screen, as the page shows it."""
    from PIL import Image

    box = opened.locator("#screen canvas").bounding_box()
    assert box is not None
    shot = Image.open(BytesIO(opened.screenshot()))
    red, green, blue = shot.convert("RGB").getpixel((int(box["x"]) + x, int(box["y"]) + y))  # type: ignore[misc]
    return red, green, blue
