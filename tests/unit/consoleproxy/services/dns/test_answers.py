"""The name server's answers, to resolvers and to what is sent to harm."""

from __future__ import annotations

from ipaddress import IPv4Address

import dns.flags
import dns.message
import dns.name
import dns.rcode
import pytest
from hypothesis import given
from hypothesis import strategies as st

from consoleproxy.services.dns.answers import MOST_UDP, Zone, answer, truncated

ZONE = Zone(
    dns.name.from_text("console.example"),
    ((IPv4Address("203.0.113.10"), IPv4Address("203.0.113.99")),),
    (IPv4Address("203.0.113.10"), IPv4Address("203.0.113.11")),
    3600,
)


def ask(name: str, kind: str = "A", **options: object) -> dns.message.Message:
    query = dns.message.make_query(name, kind, **options)  # type: ignore[arg-type]
    wire = query.to_wire()
    reply = answer(wire, ZONE, udp=True)
    assert reply is not None
    assert len(reply) <= MOST_UDP
    assert len(reply) <= 4 * len(wire), "a forged query must not be worth its while"
    response = dns.message.from_wire(reply)
    assert query.is_response(response)
    assert not response.flags & dns.flags.RA
    return response


def texts(section: list[dns.rrset.RRset]) -> list[str]:
    return [str(record) for rrset in section for record in rrset]


def test_an_address_has_a_name() -> None:
    response = ask("203-0-113-42.console.example")
    assert texts(response.answer) == ["203.0.113.42"]
    assert response.flags & dns.flags.AA
    assert (response.rcode(), response.authority) == (dns.rcode.NOERROR, [])


def test_the_name_comes_back_as_it_was_written() -> None:
    response = ask("203-0-113-42.CoNsOlE.eXaMpLe")
    assert str(response.answer[0].name) == "203-0-113-42.CoNsOlE.eXaMpLe."


@pytest.mark.parametrize(
    "name",
    [
        "203-0-113-9.console.example",
        "203-0-113-100.console.example",
        "203-0-113-042.console.example",
        "203-0-113-300.console.example",
        "203.0.113.42.console.example",
        "x.203-0-113-42.console.example",
        "www.console.example",
        "203-0-113-42-.console.example",
    ],
)
def test_nothing_else_has_one(name: str) -> None:
    response = ask(name)
    assert (response.rcode(), response.answer) == (dns.rcode.NXDOMAIN, [])
    [soa] = response.authority
    assert (str(soa.name), soa.rdtype.name) == ("console.example.", "SOA")


@pytest.mark.parametrize("kind", ["AAAA", "TXT", "MX", "SOA", "NS", "HTTPS"])
def test_a_name_has_an_address_and_nothing_else(kind: str) -> None:
    response = ask("203-0-113-42.console.example", kind)
    assert (response.rcode(), response.answer) == (dns.rcode.NOERROR, [])
    assert [rrset.rdtype.name for rrset in response.authority] == ["SOA"]


def test_the_zone_says_who_serves_it() -> None:
    response = ask("console.example", "NS")
    assert sorted(texts(response.answer)) == ["203-0-113-10.console.example.", "203-0-113-11.console.example."]
    assert texts(response.additional) == ["203.0.113.10", "203.0.113.11"], "glue"
    [soa] = texts(ask("console.example", "SOA").answer)
    assert soa.startswith("203-0-113-10.console.example. hostmaster.console.example. ")


@pytest.mark.parametrize("name", ["example", "notconsole.example", "www.google.com", "."])
@pytest.mark.parametrize("kind", ["A", "ANY", "NS"])
def test_other_zones_are_refused(name: str, kind: str) -> None:
    response = ask(name, kind)
    assert response.rcode() == dns.rcode.REFUSED
    assert not (response.answer or response.authority or response.flags & dns.flags.AA)


@pytest.mark.parametrize("kind", ["AXFR", "IXFR"])
def test_no_transfer(kind: str) -> None:
    assert ask("console.example", kind).rcode() == dns.rcode.REFUSED


def test_any_is_no_lever() -> None:
    assert texts(ask("203-0-113-42.console.example", "ANY").answer) == ["203.0.113.42"]


def test_edns() -> None:
    response = ask("203-0-113-42.console.example", use_edns=0, payload=4096)
    assert (response.edns, response.payload) == (0, MOST_UDP)
    assert ask("203-0-113-42.console.example", use_edns=1).rcode() == dns.rcode.BADVERS


def test_other_operations() -> None:
    query = dns.message.make_query("console.example", "SOA")
    query.set_opcode(dns.opcode.NOTIFY)
    reply = answer(query.to_wire(), ZONE, udp=True)
    assert reply is not None
    assert dns.message.from_wire(reply).rcode() == dns.rcode.NOTIMP


def test_answers_are_not_answered() -> None:
    response = dns.message.make_response(dns.message.make_query("console.example", "SOA")).to_wire()
    assert answer(response, ZONE, udp=True) is None
    assert truncated(response) is None


def test_who_asks_too_often_is_sent_to_tcp() -> None:
    reply = truncated(dns.message.make_query("203-0-113-42.console.example", "A").to_wire())
    assert reply is not None
    response = dns.message.from_wire(reply)
    assert response.flags & dns.flags.TC
    assert not response.answer


@given(st.binary(max_size=600))
def test_whatever_comes(wire: bytes) -> None:
    for udp in (True, False):
        reply = answer(wire, ZONE, udp=udp)
        assert reply is None or (reply[:2] == wire[:2] and reply[2] & 0x80)
    truncated(wire)


@given(st.data())
def test_whatever_is_made_of_a_query(data: st.DataObject) -> None:
    wire = bytearray(dns.message.make_query("203-0-113-42.console.example", "A", use_edns=0).to_wire())
    for place in data.draw(st.lists(st.integers(0, len(wire) - 1), min_size=1, max_size=6)):
        wire[place] = data.draw(st.integers(0, 255))
    reply = answer(bytes(wire), ZONE, udp=True)
    assert reply is None or len(reply) <= MOST_UDP
