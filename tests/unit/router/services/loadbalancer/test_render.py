"""Golden tests: haproxy's files and ruleset, and when a change takes a reload."""

from __future__ import annotations

from pathlib import Path

from appliance.settings import Settings
from router.document import RouterState
from router.services.loadbalancer.render import digest, render
from tests.documents import Raw, small_state
from tests.unit.router.golden import assert_ruleset
from tests.unit.router.services.loadbalancer.documents import balanced_state

HERE = Path(__file__).parent
SETTINGS = Settings(config_dir=Path("/c"), run_dir=Path("/r"))


def _digest(raw: Raw) -> str:
    state = RouterState.model_validate(raw)
    assert state.loadbalancer is not None
    return digest(state.loadbalancer, SETTINGS)


def test_golden() -> None:
    rendered = render(RouterState.model_validate(balanced_state()), SETTINGS)
    texts = {str(path): (file.text, file.mode, file.owner) for path, file in rendered.files.items()}
    config = str(texts["/c/loadbalancer/haproxy.cfg"][0])
    wanted = (HERE / "golden.cfg").read_text("utf-8").replace("DIGEST", _digest(balanced_state()))
    assert config == wanted, f"rendered, where golden.cfg differs:\n{config}"
    assert texts == {
        "/c/loadbalancer/haproxy.cfg": (config, 0o640, "haproxy"),
        "/c/loadbalancer/c1.pem": ("PEM 1", 0o600, "haproxy"),
        "/c/loadbalancer/c2.pem": ("PEM 2", 0o600, "haproxy"),
    }
    assert_ruleset(rendered.ruleset, HERE / "golden.nft")
    [unit] = rendered.units
    assert (unit.user, unit.capabilities) == ("haproxy", frozenset({"net_bind_service"}))


def test_nothing_without_rules_and_on_standby() -> None:
    empty: list[Raw | None] = [None, {"rules": []}]
    for section in empty:
        state = render(RouterState.model_validate(small_state() | {"loadbalancer": section}), SETTINGS)
        assert (state.files, state.units, state.ruleset.rules) == ({}, (), {})
    raw = balanced_state()
    for role, count in (("active", 1), ("standby", 0)):
        raw["interfaces"]["redundancy"] = {"state": role, "group": 1, "priority": 100, "peer": "169.254.0.3"}
        assert len(render(RouterState.model_validate(raw), SETTINGS).units) == count


def test_members_are_not_in_the_digest_and_everything_else_is() -> None:
    before = _digest(balanced_state())
    raw = balanced_state()
    raw["loadbalancer"]["rules"][0]["members"] = []
    assert _digest(raw) == before
    for rule, values in (
        (0, {"port": 8000}),
        (0, {"sources": []}),
        (0, {"algorithm": "source"}),
        (0, {"health": {"interval": 9}}),
        (1, {"stickiness": None}),
        (3, {"protocol": "tcp"}),
        (4, {"certificates": ["c2", "c1"]}),
    ):
        raw = balanced_state()
        raw["loadbalancer"]["rules"][rule] |= values
        assert _digest(raw) != before, values
    raw = balanced_state()
    raw["loadbalancer"]["certificates"][0]["pem"] = "PEM 3"
    assert _digest(raw) != before


def test_long_source_lists_are_split() -> None:
    raw = balanced_state()
    raw["loadbalancer"]["rules"][0]["sources"] = [f"192.0.2.{number}/32" for number in range(100)]
    config = str(render(RouterState.model_validate(raw), SETTINGS).files[Path("/c/loadbalancer/haproxy.cfg")].text)
    # haproxy takes 64 words a line
    assert max(len(line.split()) for line in config.splitlines()) <= 64
    assert config.count("acl allowed src") == 4
