"""A file that a person sends from a page of the control plane, in a real browser."""

from __future__ import annotations

import hashlib
import os
import secrets
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from tests.netns.consoleproxy.browser import browser, page
from tests.netns.lab import REPOSITORY
from tests.netns.ssvm.world import FILES, ORIGIN, SSVM, STORE, World
from tests.wait import wait_for

#: origin of the control plane's pages, and of somebody else's
OURS, THEIRS = f"http://{ORIGIN}:8000", f"http://{ORIGIN}:8001"

_PAGE = """<!doctype html><title>upload</title>
<input type="file" id="file"><progress id="bar" value="0" max="100"></progress><output id="state"></output>
<script>
document.getElementById("file").onchange = (event) => {
  const [id, token] = location.hash.slice(1).split(":");
  const form = new FormData();
  form.append("file", event.target.files[0]);
  const sending = new XMLHttpRequest();
  window.seen = [];
  sending.upload.onprogress = (now) => {
    seen.push([now.loaded, now.total]);
    document.getElementById("bar").value = 100 * now.loaded / now.total;
  };
  sending.onloadend = () => { document.getElementById("state").value = `${sending.status} ${sending.responseText}`; };
  sending.open("POST", `https://SSVM/upload/${id}`);
  for (const [name, value] of [["X-signature", token], ["X-metadata", "m"], ["X-expires", "e"]])
    sending.setRequestHeader(name, value);
  sending.send(form);
};
</script>
"""


@pytest.fixture(scope="module")
def chromium(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    world.origin.write(f"{FILES}/upload.html", _PAGE.replace("SSVM", SSVM))
    other = ["/usr/bin/python3", str(REPOSITORY / "tests/origin.py"), FILES, "8001"]
    world.origin.popen(other, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for(lambda: world.origin.connects("127.0.0.1", 8001), 20, "the other origin")
    world.push(origins=[OURS])
    inside = world.lab.hypervisor.command(world.origin.id, [])
    with browser(inside, Path(tmp_path_factory.mktemp("chromium"))) as running:
        yield running


def waiting(world: World) -> tuple[str, str]:
    """A new upload; its id and token."""
    token = secrets.token_urlsafe(32)
    expires = (datetime.now(UTC) + timedelta(minutes=5)).isoformat()
    job = {"format": "raw", "size_limit": 1 << 30, "expires": expires}
    return world.add("upload", token_hash=hashlib.sha256(token.encode()).hexdigest(), **job), token


def send(opened: Page, origin: str, id: str, token: str, content: bytes) -> str:
    """Choose a file on the page; what the page says in the end."""
    opened.goto(f"{origin}/upload.html#{id}:{token}")
    state = "document.getElementById('state').value"
    # another fragment of the same address loads nothing anew
    opened.evaluate(f"() => {{ {state} = ''; }}")
    opened.set_input_files("#file", {"name": "disk.raw", "mimeType": "application/octet-stream", "buffer": content})
    opened.wait_for_function(f"() => {state} !== ''", timeout=60_000)
    return str(opened.evaluate(f"() => {state}"))


def test_a_file_is_uploaded_with_progress(world: World, chromium: Browser) -> None:
    content = os.urandom(40 << 20)
    id, token = waiting(world)
    with page(chromium) as opened:
        assert send(opened, OURS, id, token, content) == "200 received\n"
        seen = opened.evaluate("() => seen")
        assert opened.evaluate("() => document.getElementById('bar').value") == 100
    loaded = [now for now, _ in seen]
    # a browser tells of it every 50 ms, in which much goes over here
    assert loaded == sorted(loaded) and any(0 < now < total for now, total in seen)
    job = world.done(id)
    assert job.result is not None
    wanted = f"sha256:{hashlib.sha256(content).hexdigest()}"
    assert (job.result.checksum, job.result.physical_size) == (wanted, len(content))
    assert world.sha256(world.ssvm, f"{STORE}/objects/{id}") == wanted
    # and once only
    with page(chromium) as opened:
        assert send(opened, OURS, id, token, b"another").startswith("403 ")
    assert world.sha256(world.ssvm, f"{STORE}/objects/{id}") == wanted


def test_pages_of_others_may_not(world: World, chromium: Browser) -> None:
    """Even with the token: the browser asks first, and is told no."""
    id, token = waiting(world)
    with page(chromium) as opened:
        assert send(opened, THEIRS, id, token, b"content") == "0 "
    assert world.job(id).state == "waiting"
    with page(chromium) as opened:
        assert send(opened, OURS, id, "guessed", b"content").startswith("403 ")
        assert send(opened, OURS, id, token, b"content") == "200 received\n"
    world.done(id)


def test_a_page_that_is_closed_in_the_middle(world: World, chromium: Browser) -> None:
    """The upload is waited for again, and can be sent anew."""
    id, token = waiting(world)
    content = os.urandom(40 << 20)
    with page(chromium) as opened:
        opened.goto(f"{OURS}/upload.html#{id}:{token}")
        opened.set_input_files("#file", {"name": "a", "mimeType": "application/octet-stream", "buffer": content})
        opened.wait_for_function("() => window.seen && seen.length > 0")
    wait_for(lambda: world.job(id).state == "waiting" or world.job(id).state == "done", 20, "the end of the request")
    if world.job(id).state == "waiting":
        assert f"objects/{id}" not in world.objects()
        with page(chromium) as opened:
            assert send(opened, OURS, id, token, content) == "200 received\n"
    world.done(id)
