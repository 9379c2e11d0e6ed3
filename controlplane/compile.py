"""Intent to document: pure, the same intent gives the same bytes.

The long lists are compiled entry by entry and remembered: a document with 20,000 rules of which one is new costs
little more than that one. Rows that point at something that is gone are left out, so every intent has a document.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from typing import Any

from pydantic import BaseModel, SecretStr, ValidationError

from appliance.errors import GatehouseError
from appliance.schema.types import PortRange
from controlplane.intent import (
    CONTROL_PREFIX,
    Balancer,
    Filter,
    Forward,
    Guest,
    GuestNetwork,
    Intent,
    PublicAddress,
    RouterNic,
)
from controlplane.network import stickiness
from router.services.accounting.model import Accounting
from router.services.dhcp.model import Dhcp, DhcpHost, DhcpNetwork
from router.services.firewall.model import EgressDefault, EgressRule, IngressRule
from router.services.interfaces.model import Interface, Interfaces
from router.services.loadbalancer.model import BalancedPort, Certificate, HealthCheck, LoadBalancer, Member
from router.services.metadata.model import GuestMetadata, Metadata
from router.services.nat.model import Nat, PortForward, SourceNat, StaticNat
from router.services.password.model import GuestPassword, Passwords


class CompileError(GatehouseError):
    """A row cannot stand in a document. ``id`` is the row's."""

    def __init__(self, id: str, reason: str) -> None:
        self.id = id
        super().__init__(f"{id}: {reason}")


@dataclass
class Memo:
    """The entries of one appliance's document compiled last: list name -> row -> JSON."""

    lists: dict[str, dict[tuple[Any, ...], bytes]] = field(default_factory=dict)

    def join(self, name: str, rows: Iterable[tuple[Any, ...]], build: Callable[[Any], BaseModel]) -> bytes:
        """The JSON array of ``rows``; those of last time are not built again. The row's first field is its id."""
        known, entries = self.lists.get(name, {}), {}
        for row in rows:
            entry = known.get(row)
            if entry is None:
                try:
                    entry = build(row).model_dump_json(exclude_none=True).encode()
                except ValidationError as error:
                    raise CompileError(row[0], _reasons(error)) from error
            entries[row] = entry
        self.lists[name] = entries
        # sorted, so that the order the rows were stored in does not show
        return b"[" + b",".join(sorted(entries.values())) + b"]"


def compile_router(intent: Intent, memo: Memo | None = None) -> bytes:
    """The RouterDocument (JSON, UTF-8) of one router. ``memo`` is kept between compiles of the same appliance.

    Raises CompileError when a row is not fit for a document, which the API should have refused.
    """
    memo = memo or Memo()
    interfaces = _interfaces(intent)
    placed = {address.ip for nic in interfaces.of_role("public") for address in nic.addresses}
    # an address whose NIC is not plugged in yet comes with the NIC
    addresses = {public.id: public for public in intent.addresses if IPv4Address(public.address) in placed}
    names = {nic.network: nic.name for nic in intent.nics if nic.role == "guest"}
    networks = [network for network in intent.networks if network.id in names]

    state = {
        b"hostname": json.dumps(intent.name).encode(),
        b"interfaces": _json(interfaces),
        b"nat": _nat(intent, networks, names, addresses, memo),
        b"firewall": _firewall(intent, networks, names, addresses, memo),
        b"accounting": _json(Accounting()),
    }
    if any(network.services & {"Dhcp", "Dns"} for network in networks):
        state[b"dhcp"] = _dhcp(intent, networks, names, memo)
    if any("UserData" in network.services for network in networks):
        state[b"metadata"] = _metadata(intent, networks, names, memo)
        state[b"passwords"] = _json(_passwords(intent, networks, names))
    if intent.balancers:
        state[b"loadbalancer"] = _json(_load_balancer(intent, names, addresses))
    head = {"kind": "router", "version": 1, "id": intent.appliance_id, "generation": intent.generation}
    return _extend(json.dumps(head).encode(), state=_object(state))


# --- sections ------------------------------------------------------------------------------------------------


def _interfaces(intent: Intent) -> Interfaces:
    by_network = {network.id: network for network in intent.networks}
    return Interfaces(interfaces=tuple(_interface(nic, intent, by_network.get(nic.network)) for nic in intent.nics))


def _interface(nic: RouterNic, intent: Intent, network: GuestNetwork | None) -> Interface:
    addresses: list[IPv4Interface] = []
    gateway = None
    if nic.role == "control":
        addresses = [IPv4Interface(f"{intent.control_address}/{CONTROL_PREFIX}")]
    elif nic.role == "guest" and network is not None:
        addresses = [IPv4Interface((network.gateway, IPv4Network(network.cidr).prefixlen))]
    elif nic.role == "public":
        # the source NAT address is the primary one
        held = sorted(
            (public for public in intent.addresses if public.segment == nic.segment),
            key=lambda public: (not public.source_nat, IPv4Address(public.address)),
        )
        addresses = [IPv4Interface(f"{public.address}/{public.netmask}") for public in held]
        gateway = IPv4Address(held[0].gateway) if held else None
    mtu = network.mtu if network is not None else None
    return Interface(
        name=nic.name,
        mac=nic.mac,
        role=nic.role,
        network=nic.network,
        mtu=mtu,
        addresses=tuple(addresses),
        gateway=gateway,
    )


def _nat(
    intent: Intent,
    networks: list[GuestNetwork],
    names: dict[str, str],
    addresses: dict[str, PublicAddress],
    memo: Memo,
) -> bytes:
    guests = {guest.nic_id: guest.address for guest in intent.guests}
    source = {public.network_id: public for public in addresses.values() if public.source_nat}
    static = sorted(
        (
            StaticNat(address=IPv4Address(public.address), guest=IPv4Address(guests[public.static_nat_nic_id]))
            for public in addresses.values()
            if public.static_nat_nic_id in guests
        ),
        key=lambda nat: nat.address,
    )
    nat = Nat(
        source=tuple(
            SourceNat(interface=names[network.id], address=IPv4Address(source[network.id].address))
            for network in networks
            if network.id in source
        ),
        static=tuple(static),
    )
    texts = {public.id: public.address for public in addresses.values() if public.static_nat_nic_id is None}
    rows = (
        (rule.id, rule, texts[rule.public_ip_id], guests[rule.nic_id])
        for rule in intent.forwards
        if rule.public_ip_id in texts and rule.nic_id in guests
    )
    return _extend(_json(nat, "forwards"), forwards=memo.join("nat.forwards", rows, _forward))


def _forward(row: tuple[str, Forward, str, str]) -> PortForward:
    id, rule, address, guest = row
    return PortForward(
        id=id,
        address=IPv4Address(address),
        protocol=rule.protocol.lower(),  # the model checks it
        ports=PortRange(first=rule.public_port, last=rule.public_end_port),
        guest=IPv4Address(guest),
        guest_ports=PortRange(first=rule.private_port, last=rule.private_end_port),
    )


def _firewall(
    intent: Intent,
    networks: list[GuestNetwork],
    names: dict[str, str],
    addresses: dict[str, PublicAddress],
    memo: Memo,
) -> bytes:
    texts = {public.id: public.address for public in addresses.values()}
    served = {network.id: names[network.id] for network in networks}
    ingress = ((rule.id, rule, texts[rule.public_ip_id]) for rule in intent.filters if rule.public_ip_id in texts)
    egress = (
        (rule.id, rule, served[rule.network_id])
        for rule in intent.filters
        if rule.public_ip_id is None and rule.network_id in served
    )
    defaults = [_json(EgressDefault(interface=served[network.id], allow=network.egress_allow)) for network in networks]
    return _object(
        {
            b"ingress": memo.join("firewall.ingress", ingress, _ingress),
            b"egress": memo.join("firewall.egress", egress, _egress),
            b"egress_defaults": b"[" + b",".join(defaults) + b"]",
        }
    )


def _match(rule: Filter) -> dict[str, Any]:
    protocol = rule.protocol.lower()
    match: dict[str, Any] = {"id": rule.id, "protocol": protocol, "sources": _networks(rule.sources)}
    if protocol in ("tcp", "udp") and rule.start_port is not None:
        end = rule.end_port if rule.end_port is not None else rule.start_port
        match["ports"] = PortRange(first=rule.start_port, last=end)
    # the API's -1 means any
    if protocol == "icmp" and rule.icmp_type is not None and rule.icmp_type >= 0:
        match["icmp_type"] = rule.icmp_type
        if rule.icmp_code is not None and rule.icmp_code >= 0:
            match["icmp_code"] = rule.icmp_code
    return match


def _ingress(row: tuple[str, Filter, str]) -> IngressRule:
    _, rule, address = row
    return IngressRule(**_match(rule), address=IPv4Address(address))


def _egress(row: tuple[str, Filter, str]) -> EgressRule:
    _, rule, interface = row
    return EgressRule(**_match(rule), interface=interface, destinations=_networks(rule.destinations))


def _networks(text: str) -> tuple[IPv4Network, ...]:
    # people write host bits into CIDRs (10.1.1.5/24); the network is what they mean
    return tuple(sorted({IPv4Network(cidr, strict=False) for cidr in json.loads(text)}))


def _dhcp(intent: Intent, networks: list[GuestNetwork], names: dict[str, str], memo: Memo) -> bytes:
    served = {network.id: names[network.id] for network in networks if network.services & {"Dhcp", "Dns"}}
    dhcp = Dhcp(
        networks=tuple(
            DhcpNetwork(
                interface=served[network.id],
                subnet=IPv4Network(network.cidr),
                gateway=IPv4Address(network.gateway),
                domain=network.domain,
                mtu=network.mtu,
            )
            for network in networks
            if network.id in served
        ),
        resolvers=tuple(IPv4Address(address) for address in intent.resolvers),
    )
    rows = (
        (guest.nic_id, served[guest.network_id], guest.mac, guest.address, guest.name, guest.default)
        for guest in intent.guests
        if guest.network_id in served
    )
    return _extend(_json(dhcp, "hosts"), hosts=memo.join("dhcp.hosts", rows, _host))


def _host(row: tuple[str, str, str, str, str, bool]) -> DhcpHost:
    id, interface, mac, address, name, default = row
    return DhcpHost(id=id, interface=interface, mac=mac, address=IPv4Address(address), name=name, default=default)


def _metadata(intent: Intent, networks: list[GuestNetwork], names: dict[str, str], memo: Memo) -> bytes:
    served = [network.id for network in networks if "UserData" in network.services]
    metadata = Metadata(interfaces=tuple(names[network] for network in served))
    public = {public.network_id: public.address for public in intent.addresses if public.source_nat}
    rows = (
        (
            guest.nic_id,
            # what is not told need not be compared
            guest._replace(password_id=None, password=None),
            public.get(guest.network_id, ""),
            intent.zone,
            intent.cloud,
        )
        for guest in intent.guests
        if guest.network_id in served
    )
    return _extend(_json(metadata, "guests"), guests=memo.join("metadata.guests", rows, _guest_metadata))


def _guest_metadata(row: tuple[str, Guest, str, str, str]) -> GuestMetadata:
    id, guest, public, zone, cloud = row
    return GuestMetadata(
        id=id,
        address=IPv4Address(guest.address),
        items={
            "service-offering": guest.offering,
            "availability-zone": zone,
            "local-ipv4": guest.address,
            "local-hostname": guest.name,
            "public-ipv4": public,
            "public-hostname": public,
            "instance-id": guest.vm_id,
            "vm-id": guest.vm_id,
            "public-keys": guest.public_key or "",
            "cloud-identifier": f"CloudStack-{{{cloud}}}",
            "hypervisor-host-name": guest.host or "",
            "cloud-domain": guest.domain,
            "cloud-domain-id": guest.domain_id,
        },
        user_data=guest.user_data,
    )


def _passwords(intent: Intent, networks: list[GuestNetwork], names: dict[str, str]) -> Passwords:
    served = {network.id for network in networks if "UserData" in network.services}
    texts = dict(intent.passwords)
    return Passwords(
        interfaces=tuple(names[network.id] for network in networks if network.id in served),
        pending=tuple(
            GuestPassword(
                id=guest.password_id,
                address=IPv4Address(guest.address),
                password=SecretStr(texts[guest.password_id]),
            )
            for guest in sorted(intent.guests, key=lambda guest: guest.nic_id)
            if guest.default and guest.password_id in texts and guest.network_id in served
        ),
    )


def _load_balancer(intent: Intent, names: dict[str, str], addresses: dict[str, PublicAddress]) -> LoadBalancer:
    """Rules that end TLS wait for their first certificate."""
    guests = {guest.nic_id: guest.address for guest in intent.guests}
    texts = {public.id: public.address for public in addresses.values() if public.static_nat_nic_id is None}
    known = {id for id, _ in intent.certificates}
    rules = []
    for row in sorted(intent.balancers, key=lambda row: row.id):
        certificates = tuple(id for id in row.certificates if id in known) if row.protocol == "ssl" else ()
        if row.public_ip_id in texts and row.network_id in names and (certificates or row.protocol != "ssl"):
            try:
                rules.append(_balanced_port(row, texts[row.public_ip_id], names[row.network_id], guests, certificates))
            except ValidationError as error:
                raise CompileError(row.id, _reasons(error)) from error
    return LoadBalancer(
        rules=tuple(rules),
        certificates=tuple(Certificate(id=id, pem=SecretStr(pem)) for id, pem in sorted(intent.certificates)),
    )


def _balanced_port(
    row: Balancer, address: str, interface: str, guests: dict[str, str], certificates: tuple[str, ...]
) -> BalancedPort:
    members = sorted(IPv4Address(guests[nic]) for nic in row.members if nic in guests)
    return BalancedPort.model_validate(
        {
            "id": row.id,
            "address": address,
            "port": row.public_port,
            "interface": interface,
            "protocol": row.protocol,
            "algorithm": row.algorithm,
            "members": tuple(Member(address=member, port=row.private_port) for member in members),
            "sources": tuple(sorted({IPv4Network(cidr, strict=False) for cidr in row.sources})),
            "stickiness": stickiness.parse(*row.stickiness, row.id) if row.stickiness is not None else None,
            "health": HealthCheck.model_validate(row.health),
            "certificates": certificates,
        }
    )


# --- JSON ----------------------------------------------------------------------------------------------------


def _json(model: BaseModel, without: str | None = None) -> bytes:
    return model.model_dump_json(exclude_none=True, exclude={without} if without else None).encode()


def _object(members: dict[bytes, bytes]) -> bytes:
    return b"{" + b",".join(b'"' + name + b'":' + value for name, value in members.items()) + b"}"


def _extend(encoded: bytes, **members: bytes) -> bytes:
    """The JSON object ``encoded``, which has members, with more of them."""
    return encoded[:-1] + b"," + _object({name.encode(): value for name, value in members.items()})[1:]


def _reasons(error: ValidationError) -> str:
    return "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
