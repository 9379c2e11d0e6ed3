"""Golden tests: the exact set of files."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from appliance.settings import Settings
from router.document import RouterState
from router.services.password.render import render
from tests.documents import Raw, small_state

SETTINGS = Settings(config_dir=Path("/c"), state_dir=Path("/s"))


def test_small_network() -> None:
    rendered = render(RouterState.model_validate(small_state()), SETTINGS)
    assert {str(path): json.loads(file.text) for path, file in rendered.files.items()} == {
        "/c/password/server.json": {"listen": ["10.1.1.1"], "port": 8080, "vault": "/s/passwords"},
        "/c/password/ids.json": ["password-1"],
    }
    (unit,) = rendered.units
    assert unit.argv == (sys.executable, "-m", "router.services.password.server", "/c/password/server.json")
    assert (unit.user, unit.capabilities, unit.writable) == ("root", frozenset(), (Path("/s/passwords"),))
    assert rendered.ruleset.rules == {
        "input": ((300, 'iifname "eth0" ip daddr { 10.1.1.1 } tcp dport 8080 goto accepted'),)
    }


def test_no_password_is_rendered() -> None:
    rendered = render(RouterState.model_validate(small_state()), SETTINGS)
    assert "correct horse" not in repr(rendered)


@pytest.mark.parametrize("passwords", [None, {"interfaces": []}])
def test_nothing_to_serve_renders_nothing(passwords: Raw | None) -> None:
    raw = small_state()
    raw["passwords"] = passwords
    rendered = render(RouterState.model_validate(raw), SETTINGS)
    assert (rendered.files, rendered.units, rendered.ruleset.rules) == ({}, (), {})
