"""Golden tests: the exact set of dnsmasq's files."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.settings import Settings
from router.document import RouterState
from router.memo import KeyedMemo
from router.services.dhcp.render import host_lines, render
from tests.documents import Raw, small_state
from tests.unit.router.services.vpn.documents import remote_state

SETTINGS = Settings(config_dir=Path("/c"), run_dir=Path("/r"))

SMALL = """\
# DHCP and DNS for the guests (dnsmasq(8)). Written by Gatehouse: edits are undone.
log-facility=-
pid-file
# the supervisor has already taken every privilege away that is not needed: stay as started
user=root
# no group at all: with one user in a user namespace, dnsmasq would fail to change to its default one
group=

# Guests only. bind-dynamic takes up addresses as they come and go, as on a standby router.
bind-dynamic
except-interface=lo
interface=eth0

# --- DHCP: a MAC that is in the hosts file gets its address, any other gets no answer at all
dhcp-authoritative
dhcp-ignore=tag:!known
dhcp-ignore-names
dhcp-no-override
no-ping
quiet-dhcp
dhcp-lease-max=65536
dhcp-leasefile=/r/dhcp/leases
dhcp-hostsfile=/c/dhcp/hosts
# a guest's second NIC must not take over its default route and resolver
dhcp-option=tag:secondary,option:router
dhcp-option=tag:secondary,option:dns-server
dhcp-option=tag:secondary,option:domain-name

dhcp-range=set:net0,10.1.1.0,static,255.255.255.0,86400
domain=a.example,10.1.1.0/24,local
dhcp-option=tag:net0,tag:!secondary,option:router,10.1.1.1
dhcp-option=tag:net0,tag:!secondary,option:dns-server,10.1.1.1

# --- DNS: our names from the names file, everything else from the zone's resolvers
no-resolv
no-hosts
addn-hosts=/c/dhcp/names
localise-queries
domain-needed
cache-size=2000
dns-forward-max=1000
# a resolver that leads back here is left out
dns-loop-detect
# no name from outside may lead a guest's programs to its metadata (DNS rebinding)
bogus-nxdomain=169.254.169.254
server=203.0.113.53
"""


def files(raw: Raw) -> dict[str, str]:
    rendered = render(RouterState.model_validate(raw), SETTINGS, KeyedMemo(host_lines))
    return {str(path): str(file.text) for path, file in rendered.files.items()}


def options(raw: Raw) -> list[str]:
    return [line for line in files(raw)["/c/dhcp/dnsmasq.conf"].splitlines() if line.startswith("dhcp-option=tag:net")]


def test_small_network() -> None:
    assert files(small_state()) == {
        "/c/dhcp/dnsmasq.conf": SMALL,
        "/c/dhcp/hosts": "02:00:0a:01:01:0a,10.1.1.10,vm1\n02:00:0a:01:01:0b,10.1.1.11,vm2\n",
        "/c/dhcp/names": (
            "10.1.1.10 vm1.a.example vm1\n"
            "10.1.1.11 vm2.a.example vm2\n"
            "10.1.1.1 data-server.a.example data-server\n"
            "10.1.1.1 data-server\n"
        ),
    }


def test_unit_and_rules() -> None:
    rendered = render(RouterState.model_validate(small_state()), SETTINGS, KeyedMemo(host_lines))
    (unit,) = rendered.units
    assert unit.argv == ("/usr/sbin/dnsmasq", "--keep-in-foreground", "--conf-file=/c/dhcp/dnsmasq.conf")
    assert (unit.user, set(unit.capabilities)) == ("dnsmasq", {"net_admin", "net_raw", "net_bind_service"})
    assert unit.writable == (Path("/r/dhcp"),)
    assert rendered.ruleset.rules == {
        "input": (
            (300, 'iifname "eth0" udp dport 67 goto accepted'),
            (300, 'iifname "eth0" ip daddr 10.1.1.1 meta l4proto { tcp, udp } th dport 53 goto accepted'),
        )
    }


def test_every_option() -> None:
    raw = small_state()
    raw["dhcp"]["networks"][0].update(
        search=["a.example", "b.example"],
        mtu=1400,
        routes=[{"destination": "192.168.0.0/16", "gateway": "10.1.1.254"}],
    )
    raw["dhcp"]["expose_resolvers"] = True
    assert options(raw) == [
        "dhcp-option=tag:net0,tag:!secondary,option:router,10.1.1.1",
        "dhcp-option=tag:net0,tag:!secondary,option:dns-server,10.1.1.1,203.0.113.53",
        "dhcp-option=tag:net0,tag:!secondary,option:domain-search,a.example,b.example",
        "dhcp-option=tag:net0,option:mtu,1400",
        "dhcp-option=tag:net0,tag:!secondary,option:classless-static-route,"
        "192.168.0.0/16,10.1.1.254,0.0.0.0/0,10.1.1.1",
        "dhcp-option=tag:net0,tag:secondary,option:classless-static-route,192.168.0.0/16,10.1.1.254",
    ]


def test_clients_of_the_vpn_are_answered_and_told_the_way_to_guests() -> None:
    raw = remote_state()
    raw["dhcp"] = small_state()["dhcp"]
    lines = files(raw)["/c/dhcp/dnsmasq.conf"].splitlines()
    assert {"interface=ipsec0", "no-dhcp-interface=ipsec0", "interface=ppp*", "dhcp-ignore=tag:!known,tag:!ppp"} <= {
        *lines
    }
    assert [line for line in lines if "tag:vpn0" in line or "set:vpn0" in line] == [
        "dhcp-range=set:vpn0,10.3.1.0,static,255.255.255.224",
        "dhcp-option=tag:vpn0,option:router",
        "dhcp-option=tag:vpn0,option:dns-server,10.1.1.1",
        "dhcp-option=tag:vpn0,option:classless-static-route,10.1.1.0/24,10.3.1.1",
        "dhcp-option=tag:vpn0,249,10.1.1.0/24,10.3.1.1",
    ]
    raw["vpn"]["remote"][0]["l2tp"] = False
    assert "vpn0" not in files(raw)["/c/dhcp/dnsmasq.conf"]


def test_nic_that_is_not_the_default_is_tagged() -> None:
    raw = small_state()
    raw["dhcp"]["hosts"][1]["default"] = False
    assert files(raw)["/c/dhcp/hosts"].splitlines()[1] == "02:00:0a:01:01:0b,set:secondary,10.1.1.11,vm2"


def test_each_network_has_its_own_data_server() -> None:
    raw = small_state()
    raw["interfaces"]["interfaces"].append(
        {"name": "eth3", "mac": "02:00:00:00:00:33", "role": "guest", "addresses": ["10.2.2.1/24"]}
    )
    raw["dhcp"]["networks"].append(
        {"interface": "eth3", "subnet": "10.2.2.0/24", "gateway": "10.2.2.1", "domain": "b.example"}
    )
    rendered = files(raw)
    assert "10.2.2.1 data-server.b.example data-server\n" in rendered["/c/dhcp/names"]
    assert "interface=eth0\ninterface=eth3\n" in rendered["/c/dhcp/dnsmasq.conf"]


@pytest.mark.parametrize("dhcp", [None, {"networks": []}])
def test_nothing_to_serve_renders_nothing(dhcp: Raw | None) -> None:
    raw = small_state()
    raw["dhcp"] = dhcp
    rendered = render(RouterState.model_validate(raw), SETTINGS, KeyedMemo(host_lines))
    assert (rendered.files, rendered.units, rendered.ruleset.rules) == ({}, (), {})


def test_a_guest_more_leaves_the_configuration_alone() -> None:
    before, after = small_state(), small_state()
    after["dhcp"]["hosts"].append(
        {"id": "n3", "interface": "eth0", "mac": "02:00:00:00:00:03", "address": "10.1.1.12", "name": "vm3"}
    )
    assert files(before)["/c/dhcp/dnsmasq.conf"] == files(after)["/c/dhcp/dnsmasq.conf"]
