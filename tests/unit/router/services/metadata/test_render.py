"""Golden tests: the exact set of files."""

from __future__ import annotations

import base64
import json
import sys
from pathlib import Path

import pytest

from appliance.settings import Settings
from router.document import RouterState
from router.memo import KeyedMemo
from router.services.metadata.content import MOST_INLINE
from router.services.metadata.render import guest_line, render
from tests.documents import Raw, small_state

SETTINGS = Settings(config_dir=Path("/c"), run_dir=Path("/r"))


def files(raw: Raw) -> dict[str, str]:
    rendered = render(RouterState.model_validate(raw), SETTINGS, KeyedMemo(guest_line))
    return {str(path): str(file.text) for path, file in rendered.files.items()}


def test_small_network() -> None:
    found = files(small_state())
    config = json.loads(found.pop("/c/metadata/server.json"))
    assert config == {
        "listen": ["10.1.1.1", "169.254.169.254"],
        "port": 80,
        "index": "/c/metadata/index",
        "data": "/c/metadata/data",
        "key": "/r/metadata/key",
    }
    assert found == {
        "/c/metadata/index": (
            '10.1.1.10 {"items": {"local-hostname": "vm1"}, "token": true, "user_data": "aGVsbG8="}\n'
            '10.1.1.11 {"items": {}, "token": true}\n'
        )
    }


def test_unit_and_rules() -> None:
    rendered = render(RouterState.model_validate(small_state()), SETTINGS, KeyedMemo(guest_line))
    (unit,) = rendered.units
    assert unit.argv == (sys.executable, "-m", "router.services.metadata.server", "/c/metadata/server.json")
    assert (unit.user, set(unit.capabilities)) == ("www-data", {"net_bind_service"})
    assert rendered.ruleset.rules == {
        "input": ((300, 'iifname "eth0" ip daddr { 10.1.1.1, 169.254.169.254 } tcp dport 80 goto accepted'),)
    }
    # user data may be secret
    assert {file.mode for path, file in rendered.files.items() if path.name != "server.json"} == {0o640}


def test_large_user_data_has_its_own_file() -> None:
    raw = small_state()
    encoded = base64.b64encode(b"x" * MOST_INLINE).decode()
    raw["metadata"]["guests"][0]["user_data"] = encoded
    found = files(raw)
    assert found["/c/metadata/data/10.1.1.10"] == encoded
    assert found["/c/metadata/index"].splitlines()[0] == (
        '10.1.1.10 {"items": {"local-hostname": "vm1"}, "token": true, "large": true}'
    )


def test_tokens_are_required_by_interface() -> None:
    raw = small_state()
    raw["metadata"]["token_required"] = []
    assert '"token": true' not in files(raw)["/c/metadata/index"]


@pytest.mark.parametrize("metadata", [None, {"interfaces": []}])
def test_nothing_to_serve_renders_nothing(metadata: Raw | None) -> None:
    raw = small_state()
    raw["metadata"] = metadata
    rendered = render(RouterState.model_validate(raw), SETTINGS, KeyedMemo(guest_line))
    assert (rendered.files, rendered.units, rendered.ruleset.rules) == ({}, (), {})
