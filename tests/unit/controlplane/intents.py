"""Intents for tests: one written out, and hypothesis strategies for any valid one."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from ipaddress import IPv4Network
from uuid import UUID

from hypothesis import strategies as st

from controlplane.convergence.intent.rows import (
    ApplianceNic,
    Filter,
    Forward,
    Guest,
    GuestNetwork,
    Intent,
    PublicAddress,
    Subnet,
)

EVERYTHING = frozenset({"Dhcp", "Dns", "SourceNat", "StaticNat", "PortForwarding", "Firewall", "UserData"})


def isolated(
    id: str,
    cidr: str,
    gateway: str,
    domain: str,
    mtu: int | None,
    egress_allow: bool,
    services: frozenset[str],
    rate: int = 0,
) -> GuestNetwork:
    """A network of one account, whose gateway is the router."""
    own = Subnet(cidr, gateway, gateway)
    return GuestNetwork(id, cidr, gateway, domain, mtu, egress_allow, services, shared=False, subnets=(own,), rate=rate)


SMALL = Intent(
    appliance_id="router-1",
    generation=7,
    name="r-1-VM",
    control_address="169.254.1.1",
    nics=(
        ApplianceNic("eth0", "0e:00:a9:fe:01:01", "guest", "guest-net", "net"),
        ApplianceNic("eth1", "0e:01:a9:fe:01:01", "control", "control", ""),
        ApplianceNic("eth2", "0e:02:a9:fe:01:01", "public", "public-p-untagged", "range"),
    ),
    zone="zone1",
    resolvers=("192.0.2.53", "192.0.2.54"),
    cloud="8d1b4f5e",
    networks=(isolated("net", "10.1.1.0/24", "10.1.1.1", "a.example", 1450, False, EVERYTHING, 100),),
    addresses=(
        PublicAddress("ip-3", "net", "203.0.113.2", False, None, "public-p-untagged", "255.255.255.0", "203.0.113.1"),
        PublicAddress(
            "ip-2", "net", "203.0.113.3", False, "nic-2", "public-p-untagged", "255.255.255.0", "203.0.113.1"
        ),
        PublicAddress("ip-1", "net", "203.0.113.9", True, None, "public-p-untagged", "255.255.255.0", "203.0.113.1"),
    ),
    guests=(
        Guest(
            nic_id="nic-1",
            network_id="net",
            mac="02:00:00:00:00:01",
            address="10.1.1.10",
            default=True,
            vm_id="vm-1",
            name="web",
            offering="Small Instance",
            public_key="ssh-ed25519 AAAA me",
            user_data=base64.b64encode(b"#!/bin/sh\n").decode(),
            password_id="password-1",
            password=b"sealed",
            domain="ROOT",
            domain_id="domain-1",
            host="host1",
        ),
        Guest(
            nic_id="nic-2",
            network_id="net",
            mac="02:00:00:00:00:02",
            address="10.1.1.11",
            default=False,
            vm_id="vm-2",
            name="db",
            offering="Small Instance",
            public_key=None,
            user_data=None,
            password_id=None,
            password=None,
            domain="ROOT",
            domain_id="domain-1",
            host=None,
        ),
    ),
    forwards=(Forward("forward-1", "ip-1", "nic-1", "TCP", 8080, 8081, 80, 81),),
    filters=(
        Filter("rule-1", "net", "ip-1", "tcp", 8080, 8081, None, None, '["198.51.100.7/24"]', "[]"),
        Filter("rule-2", "net", "ip-2", "icmp", None, None, -1, -1, '["0.0.0.0/0"]', "[]"),
        Filter("rule-3", "net", None, "all", None, None, None, None, '["10.1.1.0/24"]', '["192.0.2.0/24"]'),
        Filter("rule-4", "net", None, "udp", 53, None, None, None, "[]", "[]"),
    ),
    passwords=(("password-1", "correct horse"),),
)

_NAMES = st.from_regex(r"[a-z][a-z0-9]{0,8}", fullmatch=True)
_CIDRS = st.builds(
    lambda number, prefix: str(IPv4Network((number & ~((1 << (32 - prefix)) - 1), prefix))),
    st.integers(0, 2**32 - 1),
    st.integers(0, 32),
)
_TEXT = st.text(max_size=40)


@st.composite
def intents(draw: st.DrawFn) -> Intent:
    """Any intent that the API lets come about: up to three tiers, several public segments, rules of all kinds."""
    tiers = draw(st.integers(1, 3))
    segments = draw(st.integers(1, 2))
    networks = tuple(
        isolated(
            id=f"net-{index}",
            cidr=f"10.{index}.0.0/{draw(st.integers(16, 28))}",
            gateway=f"10.{index}.0.1",
            domain=f"{draw(_NAMES)}.example",
            mtu=draw(st.none() | st.integers(576, 9000)),
            egress_allow=draw(st.booleans()),
            services=frozenset(draw(st.sets(st.sampled_from(sorted(EVERYTHING))))),
            rate=draw(st.sampled_from([0, 10, 200])),
        )
        for index in range(tiers)
    )
    nics = [
        ApplianceNic(f"eth{index}", f"0e:{index:02x}:a9:fe:01:01", "guest", f"guest-net-{index}", f"net-{index}")
        for index in range(tiers)
    ]
    nics.append(ApplianceNic(f"eth{tiers}", "0e:10:a9:fe:01:01", "control", "control", ""))
    # an address may be on a segment that has no NIC yet
    nics += [
        ApplianceNic(f"eth{tiers + 1 + index}", f"0e:2{index}:a9:fe:01:01", "public", f"public-{index}", "range")
        for index in range(draw(st.integers(0, segments)))
    ]
    guests = _guests(draw, networks)
    addresses = _addresses(draw, networks, segments, guests)
    return replace(
        SMALL,
        nics=tuple(nics),
        zone=draw(_TEXT),
        networks=networks,
        guests=guests,
        addresses=addresses,
        forwards=_forwards(draw, addresses, guests),
        filters=_filters(draw, networks, addresses),
        passwords=tuple((guest.password_id, "secret") for guest in guests if guest.default and guest.password_id),
    )


def _guests(draw: st.DrawFn, networks: tuple[GuestNetwork, ...]) -> tuple[Guest, ...]:
    guests: list[Guest] = []
    for network in networks:
        hosts = draw(st.lists(st.integers(2, 14), unique=True, max_size=4))
        names = draw(st.lists(_NAMES, unique=True, min_size=len(hosts), max_size=len(hosts)))
        for host, name in zip(hosts, names, strict=True):
            number = len(guests)
            guests.append(
                Guest(
                    nic_id=f"nic-{number}",
                    network_id=network.id,
                    mac=f"02:00:00:00:00:{number:02x}",
                    address=str(IPv4Network(network.cidr).network_address + host),
                    default=draw(st.booleans()),
                    vm_id=f"vm-{number}",
                    name=name,
                    offering=draw(_TEXT),
                    public_key=draw(st.none() | _TEXT),
                    user_data=draw(st.none() | st.binary(max_size=60).map(lambda raw: base64.b64encode(raw).decode())),
                    password_id=draw(st.none() | st.just(f"password-{number}")),
                    password=b"sealed",
                    domain=draw(_TEXT),
                    domain_id="domain-1",
                    host=draw(st.none() | _TEXT),
                )
            )
    return tuple(guests)


def _addresses(
    draw: st.DrawFn, networks: tuple[GuestNetwork, ...], segments: int, guests: tuple[Guest, ...]
) -> tuple[PublicAddress, ...]:
    # two guests never share a static NAT address, and each has one at most
    free = draw(st.permutations([guest.nic_id for guest in guests]))
    found: list[PublicAddress] = []
    for network in networks:
        for first in (True, *(False for _ in range(draw(st.integers(0, 3))))):
            segment = draw(st.integers(0, segments - 1))
            static = free.pop() if free and not first and draw(st.booleans()) else None
            found.append(
                PublicAddress(
                    id=f"ip-{len(found)}",
                    network_id=network.id,
                    address=f"203.0.{113 + segment}.{10 + len(found)}",
                    source_nat=first,
                    static_nat_nic_id=static,
                    segment=f"public-{segment}",
                    netmask="255.255.255.0",
                    gateway=f"203.0.{113 + segment}.1",
                )
            )
    return tuple(draw(st.permutations(found)))


def _forwards(draw: st.DrawFn, addresses: tuple[PublicAddress, ...], guests: tuple[Guest, ...]) -> tuple[Forward, ...]:
    found: list[Forward] = []
    for address in addresses:
        low = 1
        for _ in range(draw(st.integers(0, 3))):
            first = low + draw(st.integers(0, 100))
            width = draw(st.integers(0, 10))
            low = first + width + 1
            target = draw(st.integers(1, 65000))
            found.append(
                Forward(
                    id=str(UUID(int=len(found))),
                    public_ip_id=address.id,
                    # a rule may point to a NIC that is just going
                    nic_id=draw(st.sampled_from([*(guest.nic_id for guest in guests), "nic-gone"])),
                    protocol=draw(st.sampled_from(["tcp", "udp"])),
                    public_port=first,
                    public_end_port=first + width,
                    private_port=target,
                    private_end_port=target + width,
                )
            )
    return tuple(found)


def _filters(
    draw: st.DrawFn, networks: tuple[GuestNetwork, ...], addresses: tuple[PublicAddress, ...]
) -> tuple[Filter, ...]:
    found = []
    for number in range(draw(st.integers(0, 6))):
        egress = draw(st.booleans())
        protocol = draw(st.sampled_from(["tcp", "udp", "icmp", "all"] if egress else ["tcp", "udp", "icmp"]))
        ports = sorted(draw(st.tuples(st.integers(1, 65535), st.integers(1, 65535))))
        has_ports = protocol in ("tcp", "udp") and draw(st.booleans())
        address = draw(st.sampled_from(addresses))
        found.append(
            Filter(
                id=str(UUID(int=1000 + number)),
                network_id=draw(st.sampled_from(networks)).id if egress else address.network_id,
                public_ip_id=None if egress else address.id,
                protocol=protocol,
                start_port=ports[0] if has_ports else None,
                end_port=ports[1] if has_ports else None,
                icmp_type=draw(st.integers(-1, 255)) if protocol == "icmp" else None,
                icmp_code=draw(st.integers(-1, 255)) if protocol == "icmp" else None,
                sources=json.dumps(draw(st.lists(_CIDRS, max_size=3))),
                destinations=json.dumps(draw(st.lists(_CIDRS, max_size=3)) if egress else []),
            )
        )
    return tuple(found)
