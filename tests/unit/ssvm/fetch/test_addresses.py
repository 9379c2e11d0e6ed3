"""Where downloads may go."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

import pytest

from ssvm.errors import ConnectionLostError, JobFailedError
from ssvm.fetch.addresses import Reach, addresses

REACH = Reach(
    internal_sites=(IPv4Network("10.5.0.0/16"), IPv4Network("127.0.0.0/8"), IPv4Network("169.254.0.0/16")),
    closed=(IPv4Network("10.5.0.9/32"), IPv4Network("203.0.113.10/32")),
    private=(IPv4Network("198.51.100.0/24"),),
)


def look_up(host: str, *answers: str) -> list[str]:
    return [str(one) for one in addresses(host, REACH, lambda name: [IPv4Address(answer) for answer in answers])]


@pytest.mark.parametrize("host", ["203.0.113.5", "8.8.8.8", "10.5.0.1"])
def test_public_addresses_and_internal_sites(host: str) -> None:
    assert look_up(host) == [host]
    assert look_up("images.example", host) == [host]


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "0.0.0.0", "169.254.169.254", "224.0.0.1", "255.255.255.255"),  # never, whatever is allowed
        *("10.0.0.1", "172.16.0.1", "192.168.1.1", "100.64.0.1", "198.18.0.1", "198.51.100.1"),  # no internal site
        *("10.5.0.9", "203.0.113.10"),  # the appliance itself
    ],
)
def test_refused_addresses(host: str) -> None:
    for name, answers in ((host, ()), ("images.example", (host,)), ("images.example", ("203.0.113.5", host))):
        with pytest.raises(JobFailedError) as caught:
            look_up(name, *answers)
        assert caught.value.cause == "refused-address"
        assert name == host or host not in caught.value.message


@pytest.mark.parametrize(
    "host",
    [
        *("127.1", "2130706433", "0x7f000001", "0177.0.0.1", "0x7f.0.0.1", "1.2.3.4.", "127.0.0.1.", "a.0x1"),
        *("::1", "::ffff:127.0.0.1", "0:0", "-a.example", "a..b", "", "%31.example", "a b", "ⓔxample.com"),
    ],
)
def test_odd_encodings_are_not_resolved(host: str) -> None:
    with pytest.raises(JobFailedError) as caught:
        look_up(host, "203.0.113.5")
    assert caught.value.cause == "refused-address"


def test_a_name_without_addresses() -> None:
    with pytest.raises(ConnectionLostError):
        look_up("images.example")
