"""A VNC client that is not noVNC: vncdotool, over a bridge from TCP to the proxy's WebSocket."""

from __future__ import annotations

import base64
import io
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.netns.consoleproxy.test_sessions import ORIGIN, by
from tests.netns.consoleproxy.world import COLOUR, PROXY, World
from tests.wait import wait_for

PORT = 5999


@contextmanager
def bridge(world: World, token: str) -> Iterator[subprocess.Popen[str]]:
    module = "tests.netns.consoleproxy.bridge"
    process = world.person.popen([sys.executable, "-m", module, str(PORT), f"{PROXY}:443", by(token), ORIGIN])
    assert process.stdout is not None and process.stdout.readline() == "listening\n"
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def vncdo(world: World, *words: Any) -> None:
    """Run vncdotool's commands on the person's machine."""
    program = Path(sys.prefix) / "bin/vncdo"
    world.person.run([str(program), "-s", f"127.0.0.1::{PORT}", "-t", "40", *map(str, words)], timeout=60)


@pytest.mark.parametrize("clipboard", [True, False])
def test_vncdotool_sees_types_and_points(world: World, clipboard: bool) -> None:
    """``clipboard`` off: the server's stream is followed, so that this client's choice of encodings is too."""
    screen, typed, shot = world.screen(), f"/run/vncdotool-{clipboard}", "/run/shot.png"
    screen.terminal(typed)
    session, token = world.session(screen.target(), policy={"clipboard": clipboard})
    with bridge(world, token):
        # the terminal has the keyboard where the pointer is
        vncdo(world, "capture", shot, "move", 60, 60, "click", 1, "type", "vncdotool", "key", "enter", "pause", 1)
    picture = Image.open(io.BytesIO(base64.b64decode(world.person.run(["base64", shot]).stdout))).convert("RGB")
    assert picture.size == (800, 600)
    assert picture.getpixel((700, 500)) == COLOUR
    wait_for(lambda: world.servers.read(typed) == "vncdotool", 10, "the typed line")
    wait_for(lambda: world.records(session, "disconnected"), 10, "the end")


def test_vncdotool_only_watches(world: World) -> None:
    screen, typed = world.screen(), "/run/vncdotool-never"
    screen.terminal(typed)
    _, token = world.session(screen.target(), policy={"view_only": True})
    with bridge(world, token):
        vncdo(world, "move", 60, 60, "click", 1, "type", "x", "key", "enter", "capture", "/run/watched.png")
    assert world.person.ok(["test", "-s", "/run/watched.png"])
    assert not world.servers.ok(["test", "-e", typed])
