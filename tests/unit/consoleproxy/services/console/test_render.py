"""What the relay gets, and what is refused before it does."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from appliance.schema.problems import explain
from appliance.settings import Settings
from consoleproxy.document import ConsoleProxyDocument, ConsoleProxyState
from consoleproxy.services.console.render import render

SETTINGS = Settings(config_dir=Path("/c"), run_dir=Path("/r"), state_dir=Path("/s"))
Raw = dict[str, Any]


def session(**more: Any) -> Raw:
    return {
        "id": "session-1",
        "token_hash": "0" * 64,
        "vm": "vm-1",
        "target": {"kind": "vnc", "host": "10.9.0.1", "port": 5901, "security": "vnc", "password": "correct horse"},
        "expires": "2026-11-24T15:00:00Z",
        **more,
    }


def small_state() -> Raw:
    nics = [
        {"name": "eth0", "mac": "02:00:00:00:00:01", "role": "control", "addresses": ["169.254.3.3/16"]},
        {"name": "eth1", "mac": "02:00:00:00:00:02", "role": "public", "addresses": ["203.0.113.10/24"]},
    ]
    certificate = {"certificate": "CERTIFICATE", "key": "KEY", "chain": "CHAIN"}
    console = {"certificate": certificate, "domain": "Console.Example", "sessions": [session()]}
    return {"hostname": "v-1-vm", "interfaces": {"interfaces": nics}, "console": console}


def rendered(raw: Raw) -> Any:
    return render(ConsoleProxyState.model_validate(raw), SETTINGS)


def test_files() -> None:
    made = rendered(small_state())
    assert {(str(path), file.mode, file.owner) for path, file in made.files.items()} == {
        ("/c/console/relay.json", 0o600, "proxy"),
        ("/c/console/certificate.pem", 0o600, "proxy"),
    }
    pem = made.files[Path("/c/console/certificate.pem")].text
    assert pem == "KEY\nCERTIFICATE\nCHAIN\n"
    config = json.loads(made.files[Path("/c/console/relay.json")].text)
    assert config["certificate_digest"] == hashlib.sha256(pem.encode()).hexdigest()
    assert config["own_origins"] == ["https://203.0.113.10", "https://203-0-113-10.console.example"]
    assert "certificate" not in config["console"]
    own = "iifname @public_interfaces ip daddr { 203.0.113.10 } tcp dport 443"
    assert [rule for _, rule in made.ruleset.rules["input"]] == [
        f"{own} update @console_clients {{ ip saddr limit rate over 30/second burst 120 packets }} drop",
        f"{own} limit rate over 100/second burst 400 packets drop",
        f"{own} accept",
    ]
    [unit] = made.units
    assert (unit.user, unit.capabilities) == ("proxy", {"net_bind_service"})
    assert unit.writable == (Path("/r/console"), Path("/s/console"))
    assert "correct horse" not in " ".join(unit.argv)


def test_screens_that_may_be_reached() -> None:
    raw = small_state()
    others = [session(id=f"session-{number}", token_hash=str(number) * 64) for number in (2, 3)]
    others[0]["target"] = {"kind": "recording", "recording": "session-1.1"}
    raw["console"]["sessions"] += others
    ruleset = rendered(raw).ruleset
    assert list(ruleset.sets["console_screens"].elements) == ["10.9.0.1 . 5901"]
    assert [rule for _, rule in ruleset.rules["console_egress"]][1:] == [
        'meta skuid "proxy" ip daddr . tcp dport @console_screens accept',
        'meta skuid "proxy" reject with icmpx admin-prohibited',
    ]


def test_without_tls() -> None:
    raw = small_state()
    raw["console"] |= {"certificate": None, "port": 8080}
    made = rendered(raw)
    assert [str(path) for path in made.files] == ["/c/console/relay.json"]
    config = json.loads(made.files[Path("/c/console/relay.json")].text)
    assert (config["certificate_digest"], config["own_origins"][0]) == ("", "http://203.0.113.10:8080")


def test_nothing_without_a_section_or_an_address() -> None:
    without_section, without_address = small_state(), small_state()
    del without_section["console"]
    del without_address["interfaces"]["interfaces"][1]
    for raw in (without_section, without_address):
        made = rendered(raw)
        assert (made.files, made.units, made.ruleset.rules) == ({}, (), {})


def test_secrets_do_not_show() -> None:
    text = repr(ConsoleProxyState.model_validate(small_state()))
    assert "correct horse" not in text
    assert "KEY" not in text


TARGET = session()["target"]


@pytest.mark.parametrize(
    ("path", "value", "field", "message"),
    [
        ("console.sessions", [session(), session(id="session-2")], "console.sessions.1.token_hash", "has this token"),
        ("console.sessions", [session(), session(token_hash="1" * 64)], "console.sessions.1.id", "given twice"),
        ("console.sessions", [session(id="../x")], "console.sessions.0.id", "pattern"),
        ("console.sessions", [session(expires="2026-11-24T15:00:00")], "console.sessions.0.expires", "timezone"),
        ("console.sessions", [session(expires=1700000000)], "console.sessions.0.expires", "ISO 8601"),
        ("console.sessions", [session(target={**TARGET, "password": None})], "password", "needs one"),
        ("console.sessions", [session(target={**TARGET, "security": "none"})], "password", "goes with security vnc"),
        ("console.sessions", [session(target={**TARGET, "security": "vencrypt"})], "ca", "needs the CA"),
        ("console.sessions", [session(target={**TARGET, "username": "gaston"})], "username", "goes with security"),
        ("console.origins", ["https://cloud.example/"], "console.origins.0", "must be an origin"),
        ("console.origins", ["https://*.cloud.example"], "console.origins.0", "must be an origin"),
        ("console.frame_ancestors", ["https://a.example; script-src *"], "console.frame_ancestors.0", "must be 'self'"),
        ("interfaces.interfaces.1.role", "guest", "interfaces.interfaces.1.role", "no guest interface"),
        ("dns", {"domain": "x.example", "ranges": []}, "dns.ranges", "is in none of the ranges"),
        ("dns", {"domain": "x.example", "ranges": [{"first": "10.0.0.2", "last": "10.0.0.1"}]}, "ranges", "below"),
    ],
)
def test_refused(path: str, value: Any, field: str, message: str) -> None:
    raw = {"kind": "consoleproxy", "id": "v-1", "generation": 1, "state": small_state()}
    *way, last = f"state.{path}".split(".")
    target: Any = raw
    for step in way:
        target = target[int(step)] if isinstance(target, list) else target[step]
    target[last] = value
    with pytest.raises(ValidationError) as caught:
        ConsoleProxyDocument.model_validate(raw)
    told = explain(caught.value, raw)
    assert any(field in name and message in text for name, text in told), told
    assert "correct horse" not in str(told)
