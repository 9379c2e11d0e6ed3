"""The messages that load remote access into charon."""

from __future__ import annotations

from typing import Any

from router.document import RouterState
from router.services.vpn.plane import KERNEL, USERSPACE
from router.services.vpn.remote.ike import (
    authorities,
    connections,
    ikev2_pool,
    is_ours,
    l2tp_pool,
    name,
    place,
    pool,
    secrets,
)
from router.services.vpn.remote.model import RemoteAccess
from tests.unit.router.services.vpn.documents import REMOTE, remote_state


def access(**changes: Any) -> RemoteAccess:
    raw = remote_state()
    raw["vpn"]["remote"][0] |= changes
    vpn = RouterState.model_validate(raw).vpn
    assert vpn is not None
    return vpn.remote[0]


def test_ikev2_by_a_certificate_and_passwords() -> None:
    [(key, message)] = connections(access(), USERSPACE)
    assert is_ours(key)
    assert place(key) == ("203.0.113.2", "ikev2")
    assert message["local"] == {
        "auth": "pubkey",
        "id": "vpn.example.com",
        "certs": [REMOTE["ikev2"]["certificate"]],
    }
    assert message["remote"]["auth"] == "eap-mschapv2"
    assert message["children"]["guests"]["local_ts"] == ["10.1.1.0/24"]
    assert "if_id_in" not in message


def test_the_resolver_is_reached_where_it_is_in_no_network() -> None:
    raw = remote_state()
    raw["interfaces"]["interfaces"][0]["addresses"].append("10.5.0.1/24")
    raw["vpn"]["remote"][0]["dns"] = "10.5.0.1"
    vpn = RouterState.model_validate(raw).vpn
    assert vpn is not None
    [(_, message)] = connections(vpn.remote[0], USERSPACE)
    assert message["children"]["guests"]["local_ts"] == ["10.1.1.0/24", "10.5.0.1/32"]


def test_l2tp_where_there_is_transport_mode() -> None:
    [(ikev2, _), (l2tp, message)] = connections(access(), KERNEL)
    assert (place(ikev2)[1], place(l2tp)[1]) == ("ikev2", "l2tp")
    [child] = message["children"].values()
    assert (message["version"], child["mode"], child["local_ts"]) == ("1", "transport", ["dynamic[udp/1701]"])
    assert message["proposals"][0].startswith("aes256-sha256")
    assert message["proposals"][-1] == "3des-sha1-modp1024"
    assert [place(key)[1] for key, _ in connections(access(ikev2=None), KERNEL)] == ["l2tp"]
    assert [place(key)[1] for key, _ in connections(access(l2tp=False), KERNEL)] == ["ikev2"]


def test_the_range_is_shared_and_its_first_address_is_the_servers() -> None:
    def both(**changes: Any) -> list[tuple[str, str]]:
        one = access(**changes)
        return [(str(first), str(last)) for first, last in (l2tp_pool(one), ikev2_pool(one))]

    assert both() == [("10.3.1.2", "10.3.1.11"), ("10.3.1.12", "10.3.1.20")]
    assert both(clients={"first": "10.3.1.1", "last": "10.3.1.3"}) == [
        ("10.3.1.2", "10.3.1.2"),
        ("10.3.1.3", "10.3.1.3"),
    ]
    assert both(ikev2=None)[0] == ("10.3.1.2", "10.3.1.20")
    assert both(l2tp=False)[1] == ("10.3.1.2", "10.3.1.20")
    [content] = pool(access()).values()
    assert content == {"addrs": "10.3.1.12-10.3.1.20", "dns": ["10.1.1.1"], "subnet": ["10.1.1.0/24"]}


def test_names_change_with_what_clients_have_from_it() -> None:
    first = access()
    changed = {
        name: value.replace("MA", "MQ")
        for name, value in REMOTE["ikev2"].items()
        if name in ("key", "certificate", "ca")
    }
    same = access(psk="x", users=[], open=False, ikev2={**REMOTE["ikev2"], **changed})
    assert name(first, "ikev2") == name(same, "ikev2")
    assert name(first, "ikev2") != name(access(networks=["10.1.1.0/25"]), "ikev2")
    assert name(first, "ikev2") != name(access(ikev2={**REMOTE["ikev2"], "identity": "b.example.com"}), "ikev2")


def test_secrets_are_of_their_users() -> None:
    found = {secret["data"]: secret["owners"] for secret in secrets(access()).values()}
    assert found == {
        "the key of the clients": ["203.0.113.2", "%any"],
        "Ann's secret": ["ann"],
        "#bob": ["bob@example.com"],
    }
    assert [secret["type"] for secret in secrets(access(ikev2=None)).values()] == ["IKE"]
    assert {secret["type"] for secret in secrets(access(l2tp=False)).values()} == {"EAP"}


def test_each_authority_by_itself() -> None:
    one = REMOTE["ikev2"]["ca"]
    assert authorities(access(ikev2={**REMOTE["ikev2"], "ca": one + one})) == (one.strip(), one.strip())
    assert authorities(access(ikev2=None)) == ()
