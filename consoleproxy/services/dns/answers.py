"""What the name server answers: pure, from a query's octets to the answer's.

RFC 1034 and 1035; 2308 for what does not exist; 6891 for EDNS; 8482 for ANY. Answers are a few records of one zone,
so that nobody is sent more than some three times what a forged query took.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset

#: octets of an answer by UDP
MOST_UDP = 512
_HOST = re.compile(rb"\d{1,3}(?:-\d{1,3}){3}", re.ASCII)
#: seconds: refresh, retry, expire of the SOA; nothing is ever transferred
_TIMES = "3600 600 604800"


@dataclass(frozen=True)
class Zone:
    """The domain; ``ranges`` are (first, last) addresses, ``nameservers`` addresses within them."""

    origin: dns.name.Name
    ranges: tuple[tuple[IPv4Address, IPv4Address], ...]
    nameservers: tuple[IPv4Address, ...]
    ttl: int

    def has(self, address: IPv4Address) -> bool:
        return any(first <= address <= last for first, last in self.ranges)

    def host(self, address: IPv4Address) -> dns.name.Name:
        return dns.name.Name((str(address).replace(".", "-").encode(), *self.origin.labels))

    def address_of(self, name: dns.name.Name) -> IPv4Address | None:
        """The address that ``name`` stands for. Only as ``host`` writes it: 010-1-1-1 is nobody's name."""
        label = name.labels[0]
        if len(name.labels) != len(self.origin.labels) + 1 or not _HOST.fullmatch(label):
            return None
        try:
            address = IPv4Address(label.decode().replace("-", "."))
        except AddressValueError:
            return None
        return address if self.has(address) else None


def answer(wire: bytes, zone: Zone, *, udp: bool) -> bytes | None:
    """The answer to a query; None for what is none and gets no answer."""
    if len(wire) < 12 or wire[2] & 0x80:
        return None  # answering an answer would never end
    try:
        query = dns.message.from_wire(wire, ignore_trailing=True)
    except (dns.exception.DNSException, ValueError, IndexError):
        # its number, that it is an answer, FORMERR, and nothing else
        return wire[:2] + bytes((0x80 | wire[2] & 0x79, dns.rcode.FORMERR)) + bytes(8)
    response = dns.message.make_response(query, our_payload=MOST_UDP)
    response.flags &= ~dns.flags.RA
    response.set_rcode(_fill(query, response, zone))
    try:
        return response.to_wire(max_size=MOST_UDP if udp else 65535)
    except dns.exception.TooBig:
        response = dns.message.make_response(query, our_payload=MOST_UDP)
        response.flags |= dns.flags.TC
        return response.to_wire()


def truncated(wire: bytes) -> bytes | None:
    """An empty answer that sends a client to TCP, where its address cannot be forged."""
    if len(wire) < 12 or wire[2] & 0x80:
        return None
    try:
        question = dns.message.from_wire(wire, question_only=True)
    except (dns.exception.DNSException, ValueError, IndexError):
        return None
    response = dns.message.make_response(question)
    response.flags |= dns.flags.TC
    return response.to_wire()


def _fill(query: dns.message.Message, response: dns.message.Message, zone: Zone) -> dns.rcode.Rcode:
    """Put the records in; the response code."""
    wrong = _wrong(query, zone)
    if wrong is not None:
        return wrong
    [asked] = query.question
    response.flags |= dns.flags.AA
    if asked.name == zone.origin:
        found = _apex(asked.rdtype, zone)
    else:
        address = zone.address_of(asked.name)
        if address is None:
            response.authority.append(_soa(zone))
            return dns.rcode.NXDOMAIN
        found = []
        if asked.rdtype in (dns.rdatatype.A, dns.rdatatype.ANY):
            found.append(dns.rrset.from_text(asked.name, zone.ttl, "IN", "A", str(address)))
    response.answer.extend(found)
    if not found:
        response.authority.append(_soa(zone))
    elif found[0].rdtype == dns.rdatatype.NS:
        response.additional.extend(
            dns.rrset.from_text(zone.host(one), zone.ttl, "IN", "A", str(one)) for one in zone.nameservers
        )
    return dns.rcode.NOERROR


def _wrong(query: dns.message.Message, zone: Zone) -> dns.rcode.Rcode | None:
    """The response code of a query that gets no record at all; None for one that may."""
    if query.opcode() != dns.opcode.QUERY:
        return dns.rcode.NOTIMP
    if query.edns > 0:
        return dns.rcode.BADVERS
    if len(query.question) != 1:
        return dns.rcode.FORMERR
    [asked] = query.question
    ours = asked.rdclass == dns.rdataclass.IN and asked.name.is_subdomain(zone.origin)
    if not ours or asked.rdtype in (dns.rdatatype.AXFR, dns.rdatatype.IXFR):
        return dns.rcode.REFUSED
    return None


def _apex(kind: dns.rdatatype.RdataType, zone: Zone) -> list[dns.rrset.RRset]:
    if kind in (dns.rdatatype.SOA, dns.rdatatype.ANY):
        return [_soa(zone)]
    if kind == dns.rdatatype.NS and zone.nameservers:
        names = [zone.host(address).to_text() for address in zone.nameservers]
        return [dns.rrset.from_text(zone.origin, zone.ttl, "IN", "NS", *names)]
    return []


def _soa(zone: Zone) -> dns.rrset.RRset:
    primary = zone.host(zone.nameservers[0]).to_text() if zone.nameservers else zone.origin.to_text()
    text = f"{primary} hostmaster.{zone.origin.to_text()} 1 {_TIMES} {zone.ttl}"
    return dns.rrset.from_text(zone.origin, zone.ttl, "IN", "SOA", text)
