"""Where downloads may go: a name is resolved once, every address is checked, and only these are connected to.

Addresses are IPv4: appliances drop IPv6, so neither AAAA records nor IPv4 in IPv6 are of use to anybody. The ranges
of documentation (RFC 5737) are routed nowhere, so they are public here: small clouds that are connected to nothing
use them as their public addresses.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv4Network

from ssvm.errors import ConnectionLostError, JobFailedError

#: never a source, whatever the settings say: this host, loopback, link-local (metadata), multicast, reserved
NEVER = tuple(map(IPv4Network, ("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "240.0.0.0/4")))
#: not public (IANA's registry of special-purpose addresses): only what is an internal site
PRIVATE = tuple(
    map(
        IPv4Network,
        ("10.0.0.0/8", "100.64.0.0/10", "172.16.0.0/12", "192.0.0.0/24", "192.168.0.0/16", "198.18.0.0/15"),
    )
)
#: a last label that URL parsers take for a number: 127.1, 0x7f000001, 017700000001 (WHATWG URL, "ends in a number")
_NUMBER = re.compile(r"(?:.*\.)?(?:[0-9]+|0[xX][0-9A-Fa-f]*)\.?")
_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9])?"
_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*\.?")

#: the addresses of a name; raises ConnectionLostError
Resolve = Callable[[str], Sequence[IPv4Address]]


@dataclass(frozen=True)
class Reach:
    """What downloads may reach. ``closed`` is never reached: the appliance itself, its control network."""

    internal_sites: tuple[IPv4Network, ...] = ()
    closed: tuple[IPv4Network, ...] = ()
    #: networks that are not public though their addresses might be
    private: tuple[IPv4Network, ...] = ()

    def allows(self, address: IPv4Address) -> bool:
        if _within(address, NEVER) or _within(address, self.closed):
            return False
        return _within(address, self.internal_sites) or not (
            _within(address, PRIVATE) or _within(address, self.private)
        )


def _within(address: IPv4Address, networks: Iterable[IPv4Network]) -> bool:
    return any(address in network for network in networks)


def addresses(host: str, reach: Reach, resolve: Resolve) -> Sequence[IPv4Address]:
    """The addresses of a URL's host, all of which may be connected to.

    Raises JobFailedError when one of them may not, and ConnectionLostError when the name cannot be resolved.
    """
    try:
        found: Sequence[IPv4Address] = (IPv4Address(host),)
    except AddressValueError:
        if _NUMBER.fullmatch(host) or not _NAME.fullmatch(host) or len(host) > 253:
            raise JobFailedError(
                "refused-address", f"{host!r} is no host name and no IPv4 address in dotted decimal notation"
            ) from None
        found = resolve(host)
        if not found:
            raise ConnectionLostError(f"{host} has no IPv4 address") from None
    if not all(map(reach.allows, found)):
        # which address it has is nothing that a tenant should learn
        raise JobFailedError(
            "refused-address",
            f"{host} is not public; an administrator can open it with secstorage.allowed.internal.sites",
        )
    return found


def resolver(nameservers: Iterable[IPv4Address]) -> Resolve:
    """Ask ``nameservers`` for A records, and nobody and nothing else (no hosts file, no search list)."""
    servers = [str(address) for address in nameservers]

    def resolve(host: str) -> Sequence[IPv4Address]:
        if not servers:
            raise JobFailedError("connection", f"{host} cannot be resolved: the zone has no resolver; give its address")
        # imported late: an SSVM that fetches nothing does without
        import dns.exception
        import dns.resolver

        asking = dns.resolver.Resolver(configure=False)
        asking.nameservers = list(servers)
        try:
            answer = asking.resolve(f"{host.rstrip('.')}.", "A", search=False, lifetime=10, raise_on_no_answer=False)
        except dns.exception.DNSException as error:
            raise ConnectionLostError(f"{host} cannot be resolved: {str(error).partition(':')[0]}") from error
        return [IPv4Address(record.address) for record in answer.rrset or ()]

    return resolve
