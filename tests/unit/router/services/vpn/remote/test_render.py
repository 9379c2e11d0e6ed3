"""Files, rules and units of remote access."""

from __future__ import annotations

from pathlib import Path

from appliance.settings import Settings
from router.services.vpn.plane import USERSPACE
from router.services.vpn.remote import firewall, l2tp
from tests.unit.router.golden import assert_ruleset
from tests.unit.router.services.vpn.remote.test_ike import access

HERE = Path(__file__).parent
SETTINGS = Settings(config_dir=Path("/c"), run_dir=Path("/r"))


def test_rules() -> None:
    assert_ruleset(firewall.ruleset([access()], l2tp=[]), HERE / "golden_ikev2.nft")
    assert_ruleset(firewall.ruleset([access()], l2tp=[access()]), HERE / "golden_l2tp.nft")


def test_l2tp() -> None:
    rendered = l2tp.render([access()], SETTINGS)
    files = {str(path): file for path, file in rendered.files.items()}
    assert {path: file.mode for path, file in files.items()} == {
        "/c/vpn/chap-secrets": 0o600,
        "/c/vpn/l2tp-203.0.113.2/ppp-up": 0o700,
        "/c/vpn/l2tp-203.0.113.2/ppp.options": 0o600,
        "/c/vpn/l2tp-203.0.113.2/xl2tpd.conf": 0o600,
    }
    lines = {path: str(file.text).splitlines() for path, file in files.items()}
    assert lines["/c/vpn/chap-secrets"][1:] == [
        '"ann" 203.0.113.2 "Ann\'s secret" *',
        '"bob@example.com" 203.0.113.2 "#bob" *',
    ]
    conf = lines["/c/vpn/l2tp-203.0.113.2/xl2tpd.conf"]
    assert {"listen-addr = 203.0.113.2", "ip range = 10.3.1.2-10.3.1.11", "local ip = 10.3.1.1"} <= set(conf)
    options = lines["/c/vpn/l2tp-203.0.113.2/ppp.options"]
    assert {"require-mschap-v2", "refuse-pap", "noccp", "mtu 1410", "ms-dns 10.1.1.1"} <= set(options)
    [unit] = rendered.units
    assert (unit.name, unit.argv[0]) == ("xl2tpd-203.0.113.2", "/usr/sbin/xl2tpd")
    assert not any("secret" in word for word in unit.argv)


def test_nothing_of_l2tp_without_it() -> None:
    assert l2tp.render([], SETTINGS).files == {}


def test_why_l2tp_is_not_served() -> None:
    assert "transport mode" in l2tp.obstacle(USERSPACE, SETTINGS)
