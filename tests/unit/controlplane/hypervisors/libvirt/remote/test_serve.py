"""The other end of a link: answers to calls, and to what is none."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from controlplane.hypervisors.bridges import Bridges
from controlplane.hypervisors.libvirt.hostside import Place
from controlplane.hypervisors.libvirt.remote.codec import encode
from controlplane.hypervisors.libvirt.remote.serve import Server
from controlplane.hypervisors.records import MARK


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Server:
    """One that has begun, on a host whose kernel is left alone."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(Bridges, "open", lambda _: None)
    made = Server()
    place = Place(tmp_path / "records", tmp_path / "records/identities", "169.254.0.2")
    assert ask(made, "begin", encode(place)) == {"result": None}
    return made


def ask(server: Server, name: str, *arguments: object) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(server.answer(json.dumps({"call": name, "arguments": arguments}).encode()))
    return answer


def test_a_call_gives_what_the_host_gives(server: Server, tmp_path: Path) -> None:
    assert ask(server, "storage_mark", str(tmp_path)) == {"result": ""}
    (tmp_path / MARK).write_text("mine")
    assert ask(server, "storage_mark", str(tmp_path)) == {"result": "mine"}


def test_files_of_an_identity_are_for_one_user_and_go(server: Server, tmp_path: Path) -> None:
    owner = [os.getuid(), os.getgid()]
    written = ask(server, "write_identity", "r-1", [["key.pem", "c2VjcmV0"]], owner)["result"]
    [[name, path]] = written
    assert name == "key.pem" and Path(path).read_bytes() == b"secret"
    assert Path(path).stat().st_mode & 0o777 == 0o400 and Path(path).parent.stat().st_mode & 0o777 == 0o700
    assert "is no name of a file" in ask(server, "write_identity", "../r-1", [], owner)["error"]
    assert "is no name of a file" in ask(server, "write_identity", "r-1", [["../key", ""]], owner)["error"]
    ask(server, "remove_identity", "r-1")
    assert list((tmp_path / "records/identities").iterdir()) == []


@pytest.mark.parametrize("name", ["_bridges", "__init__", "nothing", "opened"])
def test_only_calls_of_a_host_can_be_made(server: Server, name: str) -> None:
    assert "error" in ask(server, name)


def test_what_is_no_call_is_answered_with_an_error(server: Server) -> None:
    assert "error" in json.loads(server.answer(b"no JSON\n"))
    assert "error" in json.loads(server.answer(b"{}\n"))
    assert "error" in ask(server, "storage_mark")
    assert "error" in ask(server, "storage_mark", 5)


def test_it_begins_as_root_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert "name root in the URL" in ask(Server(), "begin", {})["error"]
    assert "comes before begin" in ask(Server(), "boot_id")["error"]
