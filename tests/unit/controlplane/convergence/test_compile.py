from __future__ import annotations

import json
import random
from dataclasses import replace
from ipaddress import IPv4Address
from typing import TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controlplane.convergence.compile.memo import CompileError, Memo
from controlplane.convergence.compile.router import compile_router
from controlplane.convergence.intent.rows import Filter, Forward, Intent, SecondaryAddress, Subnet
from router.document import RouterDocument, RouterState
from tests.unit.controlplane.intents import SMALL, intents

Row = TypeVar("Row")

GOLDEN = {
    "kind": "router",
    "version": 1,
    "id": "router-1",
    "generation": 7,
    "state": {
        "hostname": "r-1-VM",
        "interfaces": {
            "interfaces": [
                {
                    "name": "eth0",
                    "mac": "0e:00:a9:fe:01:01",
                    "role": "guest",
                    "network": "net",
                    "mtu": 1450,
                    "addresses": ["10.1.1.1/24"],
                },
                {
                    "name": "eth1",
                    "mac": "0e:01:a9:fe:01:01",
                    "role": "control",
                    "network": "",
                    "addresses": ["169.254.1.1/16"],
                },
                {
                    "name": "eth2",
                    "mac": "0e:02:a9:fe:01:01",
                    "role": "public",
                    "network": "range",
                    # the source NAT address first, the others in order
                    "addresses": ["203.0.113.9/24", "203.0.113.2/24", "203.0.113.3/24"],
                    "gateway": "203.0.113.1",
                },
            ],
            "routes": [],
        },
        "nat": {
            "source": [{"interface": "eth0", "address": "203.0.113.9"}],
            "static": [{"address": "203.0.113.3", "guest": "10.1.1.11"}],
            "forwards": [
                {
                    "id": "forward-1",
                    "address": "203.0.113.9",
                    "protocol": "tcp",
                    "ports": {"first": 8080, "last": 8081},
                    "guest": "10.1.1.10",
                    "guest_ports": {"first": 80, "last": 81},
                }
            ],
        },
        "firewall": {
            "ingress": [
                {"protocol": "icmp", "id": "rule-2", "address": "203.0.113.3", "sources": ["0.0.0.0/0"]},
                {
                    "protocol": "tcp",
                    "ports": {"first": 8080, "last": 8081},
                    "id": "rule-1",
                    "address": "203.0.113.9",
                    "sources": ["198.51.100.0/24"],
                },
            ],
            "egress": [
                {
                    "protocol": "all",
                    "id": "rule-3",
                    "interface": "eth0",
                    "sources": ["10.1.1.0/24"],
                    "destinations": ["192.0.2.0/24"],
                },
                {
                    "protocol": "udp",
                    "ports": {"first": 53, "last": 53},
                    "id": "rule-4",
                    "interface": "eth0",
                    "sources": [],
                    "destinations": [],
                },
            ],
            "egress_defaults": [{"interface": "eth0", "allow": False}],
        },
        "accounting": {
            "guests": True,
            "public": True,
            "addresses": [
                {"id": "ip-1", "address": "203.0.113.9"},
                {"id": "ip-2", "address": "203.0.113.3"},
                {"id": "ip-3", "address": "203.0.113.2"},
            ],
            "vpn": [],
        },
        "shaping": {"interfaces": [{"interface": "eth0", "mbit": 100}, {"interface": "eth2", "mbit": 100}]},
        "dhcp": {
            "networks": [
                {
                    "interface": "eth0",
                    "subnet": "10.1.1.0/24",
                    "gateway": "10.1.1.1",
                    "domain": "a.example",
                    "search": ["a.example"],
                    "mtu": 1450,
                    "routes": [],
                    "lease": 86400,
                }
            ],
            "records": [],
            "resolvers": ["192.0.2.53", "192.0.2.54"],
            "expose_resolvers": False,
            "hosts": [
                {
                    "id": "nic-1",
                    "interface": "eth0",
                    "mac": "02:00:00:00:00:01",
                    "address": "10.1.1.10",
                    "name": "web",
                    "default": True,
                },
                {
                    "id": "nic-2",
                    "interface": "eth0",
                    "mac": "02:00:00:00:00:02",
                    "address": "10.1.1.11",
                    "name": "db",
                    "default": False,
                },
            ],
        },
        "metadata": {
            "interfaces": ["eth0"],
            "token_required": [],
            "guests": [
                {
                    "id": "nic-1",
                    "address": "10.1.1.10",
                    "items": {
                        "service-offering": "Small Instance",
                        "availability-zone": "zone1",
                        "local-ipv4": "10.1.1.10",
                        "local-hostname": "web",
                        "public-ipv4": "203.0.113.9",
                        "public-hostname": "203.0.113.9",
                        "instance-id": "vm-1",
                        "vm-id": "vm-1",
                        "public-keys": "ssh-ed25519 AAAA me",
                        "cloud-identifier": "CloudStack-{8d1b4f5e}",
                        "hypervisor-host-name": "host1",
                        "cloud-domain": "ROOT",
                        "cloud-domain-id": "domain-1",
                    },
                    "user_data": "IyEvYmluL3NoCg==",
                },
                {
                    "id": "nic-2",
                    "address": "10.1.1.11",
                    "items": {
                        "service-offering": "Small Instance",
                        "availability-zone": "zone1",
                        "local-ipv4": "10.1.1.11",
                        "local-hostname": "db",
                        "public-ipv4": "203.0.113.9",
                        "public-hostname": "203.0.113.9",
                        "instance-id": "vm-2",
                        "vm-id": "vm-2",
                        "public-keys": "",
                        "cloud-identifier": "CloudStack-{8d1b4f5e}",
                        "hypervisor-host-name": "",
                        "cloud-domain": "ROOT",
                        "cloud-domain-id": "domain-1",
                    },
                },
            ],
        },
        "passwords": {
            "interfaces": ["eth0"],
            "pending": [{"id": "password-1", "address": "10.1.1.10", "password": "correct horse"}],
        },
    },
}


def state_of(intent: Intent) -> RouterState:
    return RouterDocument.model_validate_json(compile_router(intent)).state


def test_golden() -> None:
    assert json.loads(compile_router(SMALL)) == GOLDEN


def test_passwords_stay_out_of_logs() -> None:
    assert "correct horse" not in repr(SMALL)


@settings(max_examples=150, deadline=None)
@given(intents())
def test_any_valid_intent_gives_a_valid_document(intent: Intent) -> None:
    state = state_of(intent)
    assert {nic.name for nic in state.interfaces.interfaces} == {nic.name for nic in intent.nics}
    for interface in state.interfaces.of_role("public"):
        source = {IPv4Address(public.address) for public in intent.addresses if public.source_nat}
        ours = [address.ip for address in interface.addresses]
        assert [address in source for address in ours] == sorted((address in source for address in ours), reverse=True)


@settings(max_examples=60, deadline=None)
@given(intents(), st.randoms(use_true_random=False))
def test_the_order_of_rows_and_the_memo_do_not_show(intent: Intent, chance: random.Random) -> None:
    def shuffled(rows: tuple[Row, ...]) -> tuple[Row, ...]:
        return tuple(chance.sample(rows, len(rows)))

    other = replace(
        intent,
        guests=shuffled(intent.guests),
        addresses=shuffled(intent.addresses),
        forwards=shuffled(intent.forwards),
        filters=shuffled(intent.filters),
    )
    memo = Memo()
    # the memo still holds the rows of another intent
    compile_router(SMALL, memo)
    assert compile_router(intent) == compile_router(other, memo) == compile_router(intent, memo)


def test_an_address_without_a_nic_yet_brings_no_rules_along() -> None:
    without_public = replace(SMALL, nics=SMALL.nics[:2])
    state = state_of(without_public)
    assert state.nat is not None and state.firewall is not None
    assert (state.nat.source, state.nat.static, state.nat.forwards, state.firewall.ingress) == ((), (), (), ())
    assert len(state.firewall.egress) == 2


def test_rules_of_what_is_gone_are_left_out() -> None:
    gone = Forward("forward-2", "ip-gone", "nic-1", "tcp", 1, 1, 1, 1)
    lost = Forward("forward-3", "ip-1", "nic-gone", "tcp", 2, 2, 2, 2)
    closed = Filter("rule-9", "net", "ip-gone", "tcp", 1, 1, None, None, "[]", "[]")
    intent = replace(SMALL, forwards=(*SMALL.forwards, gone, lost), filters=(*SMALL.filters, closed))
    assert compile_router(intent) == compile_router(SMALL)


def test_services_that_the_offering_lacks_are_off() -> None:
    bare = replace(SMALL, networks=(SMALL.networks[0]._replace(services=frozenset({"SourceNat"})),))
    state = state_of(bare)
    assert (state.dhcp, state.metadata, state.passwords) == (None, None, None)


def test_a_row_that_no_document_can_hold_is_named() -> None:
    bad = Forward("forward-9", "ip-1", "nic-1", "tcp", 10, 12, 80, 81)
    with pytest.raises(CompileError, match=r"forward-9: .*80-81") as caught:
        compile_router(replace(SMALL, forwards=(bad,)))
    assert caught.value.id == "forward-9"


def test_a_shared_network() -> None:
    """Two subnets on one NIC, no translation, guests at their own addresses, and sources tied to MACs."""
    subnets = (Subnet("10.1.1.0/24", "10.1.1.1", "10.1.1.2"), Subnet("10.1.2.0/24", "10.1.2.254", "10.1.2.9"))
    services = frozenset({"Dhcp", "Dns", "UserData"})
    network = SMALL.networks[0]._replace(shared=True, subnets=subnets, services=services)
    more = SecondaryAddress("second-1", "nic-2", "net", "02:00:00:00:00:02", "10.1.2.50")
    intent = replace(
        SMALL, nics=SMALL.nics[:2], networks=(network,), addresses=(), forwards=(), filters=(), secondary=(more,)
    )
    state = state_of(intent)
    nic = next(nic for nic in state.interfaces.interfaces if nic.name == "eth0")
    assert ([str(address) for address in nic.addresses], str(nic.gateway)) == (
        ["10.1.1.2/24", "10.1.2.9/24"],
        "10.1.1.1",
    )
    assert state.dhcp and state.metadata and state.sourceguard and state.nat
    assert [(str(one.gateway), str(one.router)) for one in state.dhcp.networks] == [
        ("10.1.1.1", "10.1.1.2"),
        ("10.1.2.254", "10.1.2.9"),
    ]
    assert {guest.items["public-ipv4"] for guest in state.metadata.guests} == {"10.1.1.10", "10.1.1.11"}
    assert not (state.nat.source or state.nat.static or state.nat.forwards)
    assert {(source.mac, str(source.address)) for source in state.sourceguard.sources} == {
        ("02:00:00:00:00:01", "10.1.1.10"),
        ("02:00:00:00:00:02", "10.1.1.11"),
        ("02:00:00:00:00:02", "10.1.2.50"),
    }
    # a secondary address is the guest's own affair
    assert "10.1.2.50" not in {str(host.address) for host in state.dhcp.hosts}


def test_rules_at_secondary_addresses() -> None:
    forward = SMALL.forwards[0]._replace(guest_address="10.1.1.90")
    static = [one._replace(static_nat_address="10.1.1.91") if one.static_nat_nic_id else one for one in SMALL.addresses]
    state = state_of(replace(SMALL, forwards=(forward,), addresses=tuple(static)))
    assert state.nat
    assert [str(one.guest) for one in state.nat.forwards] == ["10.1.1.90"]
    assert [str(one.guest) for one in state.nat.static] == ["10.1.1.91"]
