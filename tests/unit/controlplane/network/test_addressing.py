from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.errors import ParameterError
from controlplane.network import addressing


def test_without_gateway_the_zone_s_network_is_used() -> None:
    subnet, gateway = addressing.guest_subnet(None, None, "10.1.1.0/24")
    assert (str(subnet), str(gateway)) == ("10.1.1.0/24", "10.1.1.1")


def test_gateway_and_netmask_make_the_network() -> None:
    subnet, gateway = addressing.guest_subnet("172.16.5.254", "255.255.254.0", "10.1.1.0/24")
    assert (str(subnet), str(gateway)) == ("172.16.4.0/23", "172.16.5.254")


@pytest.mark.parametrize(
    ("gateway", "netmask"),
    [
        ("10.1.1.1", None),
        (None, "255.255.255.0"),
        ("10.1.1.1", "255.0.255.0"),
        ("10.1.1.1", "24"),
        ("10.1.1.1", "0.0.0.255"),
        ("10.1.1.1", "255.255.255.254"),
        ("10.1.1.1", "254.0.0.0"),
        ("10.1.1.0", "255.255.255.0"),
        ("10.1.1.255", "255.255.255.0"),
        ("8.8.8.1", "255.255.255.0"),
        ("10.0.0.1", "255.255.255.0 "),
        ("10.1.1.256", "255.255.255.0"),
        ("192.168.0.1", "255.0.0.0"),
    ],
)
def test_bad_networks_are_refused(gateway: str | None, netmask: str | None) -> None:
    with pytest.raises(ParameterError):
        addressing.guest_subnet(gateway, netmask, "10.1.1.0/24")


@pytest.mark.parametrize(
    ("start", "end"),
    [
        (None, "10.1.1.9"),
        ("10.1.1.9", "10.1.1.8"),
        ("10.1.2.9", "10.1.2.10"),
        ("10.1.1.0", None),
        ("10.1.1.10", "10.1.1.255"),
        ("x", None),
    ],
)
def test_bad_ranges_are_refused(start: str | None, end: str | None) -> None:
    with pytest.raises(ParameterError):
        addressing.address_range(IPv4Network("10.1.1.0/24"), start, end)


def test_a_range_of_one_address() -> None:
    assert addressing.address_range(IPv4Network("10.1.1.0/24"), "10.1.1.9", None) == ("10.1.1.9", "10.1.1.9")


@pytest.mark.parametrize("text", ["10.0.0.0", "10.0.0.0/33", "10.0.0/8", "::/0", "10.0.0.0/255.0.0.0", "", "a/8", "/8"])
def test_what_is_no_cidr_is_refused(text: str) -> None:
    with pytest.raises(ParameterError):
        addressing.parse_cidr("cidrlist", text)


def test_cidrs_lose_host_bits_and_duplicates() -> None:
    assert addressing.parse_cidrs("cidrlist", ["10.1.1.7/24", " 10.1.1.0/24", "0.0.0.0/0"]) == [
        "10.1.1.0/24",
        "0.0.0.0/0",
    ]


@given(st.sets(st.integers(0, 60)), st.integers(0, 60), st.integers(0, 60))
def test_free_addresses_are_all_that_are_not_taken(taken: set[int], one: int, other: int) -> None:
    first, last = sorted((one, other))
    free = [int(IPv4Address(address)) for address in addressing.free_addresses(first, last, taken)]
    assert free == sorted(set(range(first, last + 1)) - taken)


@pytest.mark.parametrize("name", ["a", "web-1", "A" * 63, "VM-00000000-0000-4000-8000-000000000001"])
def test_host_names(name: str) -> None:
    assert addressing.check_hostname("name", name) == name


@pytest.mark.parametrize("name", ["", "-a", "a-", "1a", "a.b", "a_b", "A" * 64, "ä", "a\n", "a b"])
def test_what_is_no_host_name_is_refused(name: str) -> None:
    with pytest.raises((ParameterError, IndexError)):
        addressing.check_hostname("name", name)


@pytest.mark.parametrize("name", ["a..b", ".a", "a.", "-a.b", "a" * 64 + ".b", ".".join(["abc"] * 60), "a b", ""])
def test_what_is_no_domain_is_refused(name: str) -> None:
    with pytest.raises(ParameterError):
        addressing.check_domain("networkdomain", name)
