"""Hypothesis strategies for router documents: any state that the models must take."""

from __future__ import annotations

import base64
from ipaddress import IPv4Address, IPv4Network
from typing import Any

from hypothesis import strategies as st

Raw = dict[str, Any]

identities = st.from_regex(r"[A-Za-z0-9._:-]{1,16}", fullmatch=True)
hostnames = st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9-]{0,10}[A-Za-z0-9])?", fullmatch=True)
domains = st.lists(hostnames, min_size=1, max_size=3).map(".".join)
mtus = st.none() | st.integers(576, 65535)
addresses = st.ip_addresses(v=4).map(str)
ports = st.integers(1, 65535)
protocols = st.sampled_from(["tcp", "udp"])


@st.composite
def networks(draw: st.DrawFn) -> str:
    return str(IPv4Network((draw(st.integers(0, 2**32 - 1)), draw(st.integers(0, 32))), strict=False))


@st.composite
def port_ranges(draw: st.DrawFn, length: int | None = None) -> Raw:
    if length is None:
        first, last = sorted((draw(ports), draw(ports)))
    else:
        first = draw(st.integers(1, 65536 - length))
        last = first + length - 1
    return {"first": first, "last": last}


@st.composite
def interfaces(draw: st.DrawFn) -> Raw:
    """One control interface, guest interfaces on 10.N.0.0/16 and public ones on 100.64.N.0/24."""
    nics: list[Raw] = [{"name": "control0", "role": "control", "addresses": ["169.254.0.2/16"]}]
    for number in range(draw(st.integers(0, 3))):
        gateway = f"10.{number}.0.1/{draw(st.integers(16, 24))}"
        nics.append({"name": f"guest{number}", "role": "guest", "addresses": [gateway]})
    for number in range(draw(st.integers(0, 2))):
        own = draw(st.lists(st.integers(2, 254), min_size=1, max_size=5, unique=True))
        nic: Raw = {"name": f"public{number}", "role": "public", "addresses": [f"100.64.{number}.{n}/24" for n in own]}
        if draw(st.booleans()):
            nic["gateway"] = f"100.64.{number}.1"
        nics.append(nic)
    for index, nic in enumerate(nics):
        nic["mac"] = f"02:00:00:00:00:{index:02x}"
        nic["mtu"] = draw(mtus)
    routes = draw(st.lists(st.fixed_dictionaries({"destination": networks(), "gateway": addresses}), max_size=2))
    return {"interfaces": draw(st.permutations(nics)), "routes": routes}


def named(section: Raw, role: str) -> list[str]:
    return [nic["name"] for nic in section["interfaces"] if nic["role"] == role]


def with_ids(draw: st.DrawFn, entries: list[Raw]) -> list[Raw]:
    unique = draw(st.lists(identities, min_size=len(entries), max_size=len(entries), unique=True))
    return [{"id": identity, **entry} for identity, entry in zip(unique, entries, strict=True)]


@st.composite
def dhcp(draw: st.DrawFn, guests: list[str]) -> Raw:
    section: Raw = {
        "networks": [],
        "records": draw(st.lists(st.fixed_dictionaries({"name": domains, "address": addresses}), max_size=2)),
        "resolvers": draw(st.lists(addresses, max_size=2)),
        "expose_resolvers": draw(st.booleans()),
    }
    hosts = []
    for name in guests:
        number = int(name.removeprefix("guest"))
        section["networks"].append(
            {
                "interface": name,
                "subnet": f"10.{number}.0.0/24",
                "gateway": f"10.{number}.0.1",
                "domain": draw(domains),
                "search": draw(st.lists(domains, max_size=2)),
                "mtu": draw(mtus),
                "routes": draw(
                    st.lists(st.fixed_dictionaries({"destination": networks(), "gateway": addresses}), max_size=2)
                ),
                "lease": draw(st.integers(120, 10**6)),
            }
        )
        for last in draw(st.lists(st.integers(2, 254), max_size=4, unique=True)):
            hosts.append(
                {
                    "interface": name,
                    "mac": f"02:00:00:01:{number:02x}:{last:02x}",
                    "address": f"10.{number}.0.{last}",
                    "name": f"vm-{last}",
                    "default": draw(st.booleans()),
                }
            )
    section["hosts"] = with_ids(draw, hosts)
    return section


@st.composite
def nat(draw: st.DrawFn, guests: list[str], public: list[str]) -> Raw:
    static = draw(st.lists(st.sampled_from(public), max_size=2, unique=True)) if public else []
    shared = [address for address in public if address not in static]
    source = [{"interface": name, "address": draw(st.sampled_from(public))} for name in guests if public]
    forwards: list[Raw] = []
    for address in shared:
        for protocol in ("tcp", "udp"):
            # sorted distinct cuts give ranges that do not overlap
            cuts = sorted(draw(st.lists(ports, max_size=6, unique=True)))
            for first, last in zip(cuts[::2], cuts[1::2], strict=False):
                forwards.append(
                    {
                        "address": address,
                        "protocol": protocol,
                        "ports": {"first": first, "last": last},
                        "guest": draw(addresses),
                        "guest_ports": draw(port_ranges(length=last - first + 1)),
                    }
                )
    return {
        "source": source,
        "static": [{"address": address, "guest": f"10.0.0.{10 + i}"} for i, address in enumerate(static)],
        "forwards": with_ids(draw, draw(st.permutations(forwards))),
    }


@st.composite
def match(draw: st.DrawFn, others: tuple[str, ...] = ()) -> Raw:
    protocol = draw(st.sampled_from(["tcp", "udp", "icmp", *others]))
    rule: Raw = {"protocol": protocol}
    if protocol in ("tcp", "udp") and draw(st.booleans()):
        rule["ports"] = draw(port_ranges())
    if protocol == "icmp" and draw(st.booleans()):
        rule["icmp_type"] = draw(st.integers(0, 255))
        rule["icmp_code"] = draw(st.none() | st.integers(0, 255))
    rule["sources"] = draw(st.lists(networks(), max_size=2))
    return rule


@st.composite
def firewall(draw: st.DrawFn, guests: list[str], public: list[str]) -> Raw:
    ingress = []
    egress = []
    if public:
        ingress = [{**rule, "address": draw(st.sampled_from(public))} for rule in draw(st.lists(match(), max_size=4))]
    if guests:
        for rule in draw(st.lists(match(others=("all",)), max_size=4)):
            destinations = draw(st.lists(networks(), max_size=2))
            egress.append({**rule, "interface": draw(st.sampled_from(guests)), "destinations": destinations})
    return {
        "ingress": with_ids(draw, ingress),
        "egress": with_ids(draw, egress),
        "egress_defaults": [{"interface": name, "allow": draw(st.booleans())} for name in guests],
    }


@st.composite
def metadata(draw: st.DrawFn, guests: list[str]) -> Raw:
    entries = []
    for last in draw(st.lists(st.integers(2, 254), max_size=4, unique=True)):
        keys = st.from_regex(r"[a-z0-9][a-z0-9-]{0,10}", fullmatch=True)
        user_data = draw(st.none() | st.binary(max_size=64).map(lambda data: base64.b64encode(data).decode()))
        items = draw(st.dictionaries(keys, st.text(max_size=20), max_size=3))
        entries.append({"address": f"10.0.0.{last}", "items": items, "user_data": user_data})
    required = [name for name in guests if draw(st.booleans())]
    return {"interfaces": guests, "guests": with_ids(draw, entries), "token_required": required}


@st.composite
def passwords(draw: st.DrawFn, guests: list[str]) -> Raw:
    text = st.text(min_size=1, max_size=40)
    pending = [
        {"address": f"10.0.0.{last}", "password": draw(text)}
        for last in draw(st.lists(st.integers(2, 254), max_size=3, unique=True))
    ]
    return {"interfaces": guests, "pending": with_ids(draw, pending)}


@st.composite
def shaping(draw: st.DrawFn, section: Raw) -> Raw:
    names = [nic["name"] for nic in section["interfaces"] if nic["role"] != "control"]
    return {"interfaces": [{"interface": name, "mbit": draw(st.integers(1, 32_000))} for name in names]}


@st.composite
def accounting(draw: st.DrawFn, public: list[str]) -> Raw:
    return {
        "guests": draw(st.booleans()),
        "public": draw(st.booleans()),
        "addresses": with_ids(draw, [{"address": address} for address in public if draw(st.booleans())]),
        "vpn": with_ids(draw, [{"networks": [f"{a}/32"]} for a in draw(st.lists(addresses, max_size=2, unique=True))]),
    }


@st.composite
def states(draw: st.DrawFn) -> Raw:
    """A valid RouterState as plain data."""
    section = draw(interfaces())
    guests = named(section, "guest")
    public = [
        str(IPv4Address(address.partition("/")[0]))
        for nic in section["interfaces"]
        if nic["role"] == "public"
        for address in nic["addresses"]
    ]
    state: Raw = {"hostname": draw(hostnames), "interfaces": section}
    optional = {
        "dhcp": dhcp(guests),
        "nat": nat(guests, public),
        "firewall": firewall(guests, public),
        "metadata": metadata(guests),
        "passwords": passwords(guests),
        "shaping": shaping(section),
        "accounting": accounting(public),
    }
    for name, strategy in optional.items():
        if draw(st.booleans()):
            state[name] = draw(strategy)
    return state
