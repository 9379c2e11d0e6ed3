"""IPv4 arithmetic for networks: parsing what clients give, and the first free address. No database."""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Iterator
from ipaddress import AddressValueError, IPv4Address, IPv4Network, NetmaskValueError

from controlplane.errors import ParameterError

#: what a guest network may use: private (RFC 1918) and shared (RFC 6598) addresses
GUEST_SPACE = tuple(IPv4Network(cidr) for cidr in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10"))

ALL = IPv4Network("0.0.0.0/0")

_LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?")


def parse_address(parameter: str, value: str) -> IPv4Address:
    """An address in dotted notation; ParameterError names ``parameter`` otherwise."""
    try:
        return IPv4Address(value)
    except AddressValueError:
        raise ParameterError(f"{parameter}: {value!r} is not an IPv4 address") from None


def parse_cidr(parameter: str, value: str) -> IPv4Network:
    """A CIDR; bits below the prefix are dropped, as firewalls do. ParameterError otherwise."""
    text = value.strip()
    try:
        # a bare address or a dotted mask would pass IPv4Network, but is no CIDR
        if not re.fullmatch(r"[0-9.]+/[0-9]{1,2}", text):
            raise AddressValueError
        return IPv4Network(text, strict=False)
    except (AddressValueError, NetmaskValueError):
        raise ParameterError(f"{parameter}: {value!r} is not an IPv4 CIDR, write it like 192.0.2.0/24") from None


def parse_cidrs(parameter: str, values: Iterable[str]) -> list[str]:
    """CIDRs in the order given, each once, in normal form."""
    return list(dict.fromkeys(str(parse_cidr(parameter, value)) for value in values))


def guest_subnet(gateway: str | None, netmask: str | None, default: str) -> tuple[IPv4Network, IPv4Address]:
    """The subnet and gateway of a new guest network.

    Without both, ``default`` (the zone's guest CIDR) with its first address as gateway. Raises ParameterError when
    only one is given, when the mask is no mask or leaves no room, when the gateway is not a host address of the
    subnet, and when the subnet is neither private nor shared address space.
    """
    if gateway is None and netmask is None:
        subnet = IPv4Network(default, strict=False)
        return subnet, subnet.network_address + 1
    if gateway is None or netmask is None:
        raise ParameterError("gateway and netmask must be given together")
    address = parse_address("gateway", gateway)
    mask = int(parse_address("netmask", netmask))
    prefix = bin(mask).count("1")
    if mask != int(IPv4Network((0, prefix)).netmask):
        raise ParameterError(f"netmask: {netmask!r} is not a netmask")
    if not 8 <= prefix <= 30:
        raise ParameterError(f"netmask: {netmask} gives a /{prefix}; a guest network has a prefix of 8 to 30")
    subnet = IPv4Network((int(address), prefix), strict=False)
    if address in (subnet.network_address, subnet.broadcast_address):
        raise ParameterError(f"gateway: {gateway} is the network or broadcast address of {subnet}")
    if not any(subnet.subnet_of(space) for space in GUEST_SPACE):
        raise ParameterError(f"the guest network {subnet} is not within private address space (RFC 1918, RFC 6598)")
    return subnet, address


def address_range(subnet: IPv4Network, start: str | None, end: str | None) -> tuple[str | None, str | None]:
    """The range that guests get addresses from, checked against the subnet; ``(None, None)`` for all of it.

    With ``start`` alone the range is that one address, as in the established system.
    """
    if start is None:
        if end is not None:
            raise ParameterError("endip needs startip")
        return None, None
    first = parse_address("startip", start)
    last = parse_address("endip", end) if end is not None else first
    for parameter, address in (("startip", first), ("endip", last)):
        if address not in subnet or address in (subnet.network_address, subnet.broadcast_address):
            raise ParameterError(f"{parameter}: {address} is not a host address of {subnet}")
    if last < first:
        raise ParameterError(f"endip {last} is below startip {first}")
    return str(first), str(last)


def host_bounds(cidr: str, start: str | None, end: str | None) -> tuple[int, int]:
    """First and last address, as integers, that a guest of the network may get (the gateway may be among them)."""
    subnet = IPv4Network(cidr)
    first = int(IPv4Address(start)) if start else int(subnet.network_address) + 1
    last = int(IPv4Address(end)) if end else int(subnet.broadcast_address) - 1
    return first, last


def range_bounds(start: str, end: str) -> tuple[int, int]:
    """The ends of a range of addresses as integers."""
    return int(IPv4Address(start)), int(IPv4Address(end))


def free_addresses(first: int, last: int, taken: Container[int]) -> Iterator[str]:
    """The free addresses from ``first`` to ``last``, lowest first."""
    return (str(IPv4Address(number)) for number in range(first, last + 1) if number not in taken)


def check_hostname(parameter: str, name: str) -> str:
    """A guest's host name (RFC 1123 label that does not begin with a digit); ParameterError otherwise."""
    if not _LABEL.fullmatch(name) or name[0].isdigit():
        raise ParameterError(
            f"{parameter}: {name!r} is not a host name: 1 to 63 of a-z, A-Z, 0-9 and '-', "
            "beginning with a letter and not ending with '-'"
        )
    return name


def parse_domain(parameter: str, name: str) -> str | None:
    """A DNS domain, None for an empty text, which takes it away. Raises ParameterError as ``check_domain``."""
    return check_domain(parameter, name) if name else None


def check_domain(parameter: str, name: str) -> str:
    """A DNS domain of at most 190 characters; ParameterError otherwise."""
    if len(name) > 190 or not all(_LABEL.fullmatch(label) for label in name.split(".")):
        raise ParameterError(
            f"{parameter}: {name!r} is not a domain name: at most 190 characters, labels of 1 to 63 letters, "
            "digits and '-' that do not begin or end with '-'"
        )
    return name
