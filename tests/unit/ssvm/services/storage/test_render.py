"""What the worker gets, and what it may reach."""

from __future__ import annotations

import json
from pathlib import Path

from appliance.settings import Settings
from ssvm.services.storage.render import render
from tests.unit.ssvm.states import small_state, state

SETTINGS = Settings(config_dir=Path("/c"), run_dir=Path("/r"), state_dir=Path("/s"))
CERTIFICATE = {"certificate": "CERTIFICATE", "key": "KEY"}


def test_files_and_units() -> None:
    made = render(state(certificate=CERTIFICATE), SETTINGS)
    [(path, file)] = made.files.items()
    assert (str(path), file.mode, file.owner) == ("/c/storage/storage.json", 0o600, "backup")
    config = json.loads(file.text)
    assert config["listen"] == ["203.0.113.10"]
    assert config["peer_listen"] == ["203.0.113.10", "10.9.0.2"]
    assert "169.254.0.0/16" in config["closed"]
    assert "10.9.0.0/24" in config["private"]
    assert config["storage"]["certificate"]["key"] == "KEY"
    worker, sandbox = made.units
    assert (worker.name, worker.user, worker.capabilities) == ("storage", "backup", frozenset({"net_bind_service"}))
    assert worker.writable == (Path("/r/storage"), Path("/s/storage"), Path("/r/nfs"), Path("/var/lib/gatehouse/store"))
    assert (sandbox.name, sandbox.user) == ("images", "nobody")
    assert not sandbox.capabilities
    assert not sandbox.writable
    assert "KEY" not in " ".join(worker.argv + sandbox.argv)


def test_what_is_let_in_and_out() -> None:
    bare = render(state(), SETTINGS).ruleset
    assert bare.rules["input"] == ()
    peer = {**CERTIFICATE, "ca": "CA"}
    made = render(
        state(certificate=CERTIFICATE, peer=peer, internal_sites=["10.5.0.0/24", "10.5.0.0/16"], resolvers=["9.9.9.9"]),
        SETTINGS,
    ).ruleset
    assert [rule for _, rule in made.rules["input"]] == [
        "iifname @public_interfaces ip daddr { 203.0.113.10 } tcp dport 443 accept",
        "ip daddr { 203.0.113.10, 10.9.0.2 } tcp dport 8443 accept",
    ]
    assert made.sets["storage_open"].elements == {"10.5.0.0-10.5.255.255": ""}
    assert made.sets["storage_resolvers"].elements == {"9.9.9.9": ""}
    sandbox, *worker = (rule for order, rule in made.rules["storage_egress"] if order)
    assert sandbox == 'meta skuid "nobody" reject with icmpx admin-prohibited'
    assert all('meta skuid "backup"' in rule for rule in worker)
    assert worker[-1] == 'meta skuid "backup" reject with icmpx admin-prohibited'


def test_nothing_without_a_section() -> None:
    raw = small_state()
    del raw["storage"]
    made = render(type(state()).model_validate(raw), SETTINGS)
    assert (made.files, made.units, made.ruleset.rules) == ({}, (), {})
