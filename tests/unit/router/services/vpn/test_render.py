"""charon's settings and the firewall's part, and the messages that load connections."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.settings import Settings
from router.document import RouterState
from router.services.vpn.connections import children, identity, load_conn, load_shared, name
from router.services.vpn.model import Vpn
from router.services.vpn.plane import KERNEL, USERSPACE, Plane
from router.services.vpn.render import render
from router.services.vpn.service import SERVICE
from tests.documents import Raw, small_state
from tests.unit.router.golden import assert_ruleset
from tests.unit.router.services.vpn.documents import vpn_state
from tests.unit.router.services.vpn.remote.test_ike import access

HERE = Path(__file__).parent
SETTINGS = Settings(config_dir=Path("/c"), run_dir=Path("/r"))


def _vpn() -> Vpn:
    found = RouterState.model_validate(vpn_state()).vpn
    assert found is not None
    return found


@pytest.mark.parametrize("plane", [KERNEL, USERSPACE])
def test_golden(plane: Plane) -> None:
    rendered = render(_vpn(), SETTINGS, plane)
    [(path, file)] = rendered.files.items()
    assert (str(path), file.mode) == ("/c/vpn/strongswan.conf", 0o600)
    assert isinstance(file.text, str)
    assert "socket = unix:///r/vpn/charon.vici" in file.text
    assert ("kernel-libipsec" in file.text) == (plane is USERSPACE)
    assert_ruleset(rendered.ruleset, HERE / f"golden_{plane.name}.nft")
    [unit] = rendered.units
    assert unit.capabilities == {"net_admin", "net_bind_service", "net_raw"}


def test_who_may_call_is_for_the_firewall_where_it_is_not_open() -> None:
    for open in (True, False):
        sets = render(Vpn(remote=(access(open=open),)), SETTINGS, USERSPACE).ruleset.sets
        assert set(sets["vpn_addresses"].elements) == {"203.0.113.2"}
        assert set(sets["vpn_open"].elements) == ({"203.0.113.2"} if open else set())


def test_no_secret_is_written() -> None:
    rendered = render(_vpn(), SETTINGS, USERSPACE)
    assert "the key of" not in repr(rendered)


def test_nothing_without_connections_and_on_standby() -> None:
    empty: list[Raw | None] = [None, {"connections": []}]
    for section in empty:
        found = SERVICE.render(RouterState.model_validate(small_state() | {"vpn": section}), SETTINGS)
        assert (found.files, found.units, found.ruleset.rules) == ({}, (), {})
    raw = vpn_state()
    raw["interfaces"]["redundancy"] = {"state": "standby", "group": 1, "priority": 100, "peer": "169.254.0.3"}
    assert SERVICE.render(RouterState.model_validate(raw), SETTINGS).units == ()


def test_ikev1_has_a_child_for_each_pair_of_networks() -> None:
    office = _vpn().connections[0]
    assert len(children(office)) == 2
    [message] = load_conn(office, KERNEL).values()
    assert (message["version"], message["encap"], message["dpd_delay"]) == ("1", "yes", "30s")
    assert message["proposals"] == ["3des-md5-modp1024"]
    assert message["if_id_in"] == message["if_id_out"] == "217"
    assert [child["remote_ts"] for child in message["children"].values()] == [["192.168.1.0/24"], ["192.168.2.0/23"]]
    assert {child["esp_proposals"][0] for child in message["children"].values()} == {"aes128-sha1-modp1536"}


def test_ikev2_has_one_child_and_lifetimes_add_up() -> None:
    branch = _vpn().connections[1]
    [message] = load_conn(branch, USERSPACE).values()
    [child] = message["children"].values()
    assert child["remote_ts"] == ["172.16.0.0/24", "172.16.1.0/24"]
    assert child["esp_proposals"] == ["aes256gcm16-ecp384"]
    assert message["proposals"][0] == "aes256gcm16-prfsha384-ecp384"
    assert (message["rekey_time"], message["over_time"]) == ("900s", "100s")
    assert (child["life_time"], child["rekey_time"]) == ("100s", "90s")
    assert "dpd_delay" not in message
    assert "if_id_in" not in message


def test_names_change_with_all_but_the_secret() -> None:
    office = _vpn().connections[0]
    assert identity(name(office)) == "office"
    assert name(office.model_copy(update={"serial": 1})) != name(office)
    raw = vpn_state()
    raw["vpn"]["connections"][0]["psk"] = "another"
    other = RouterState.model_validate(raw).vpn
    assert other is not None
    assert name(other.connections[0]) == name(office)
    assert load_shared(other.connections[0])["data"] == "another"
    assert load_shared(office)["owners"] == ["198.51.100.9"]


def test_a_peer_that_calls_itself_otherwise() -> None:
    office = _vpn().connections[0].model_copy(update={"peer_id": "vpn.example.com"})
    [message] = load_conn(office, USERSPACE).values()
    assert (message["remote"]["id"], message["remote_addrs"]) == ("vpn.example.com", ["198.51.100.9"])
    # a secret with our own address as owner would be tried for every peer
    assert load_shared(office)["owners"] == ["198.51.100.9", "vpn.example.com"]
