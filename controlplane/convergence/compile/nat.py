"""Source NAT, static NAT and port forwards."""

from __future__ import annotations

from ipaddress import IPv4Address

from appliance.schema.types import PortRange
from controlplane.convergence.compile.encoding import dump, extend
from controlplane.convergence.compile.served import Served
from controlplane.convergence.intent.rows import Forward
from router.services.nat.model import Nat, PortForward, SourceNat, StaticNat


def section(served: Served) -> bytes:
    """The document's ``nat``."""
    intent, names, addresses = served.intent, served.names, served.addresses
    guests = {guest.nic_id: guest.address for guest in intent.guests}
    source = {public.network_id: public for public in addresses.values() if public.source_nat}
    static = sorted(
        (
            StaticNat(
                address=IPv4Address(public.address),
                guest=IPv4Address(public.static_nat_address or guests[public.static_nat_nic_id]),
            )
            for public in addresses.values()
            if public.static_nat_nic_id in guests
        ),
        key=lambda nat: nat.address,
    )
    nat = Nat(
        source=tuple(
            SourceNat(interface=names[network.id], address=IPv4Address(source[network.id].address))
            for network in served.networks
            if network.id in source
        ),
        static=tuple(static),
    )
    texts = {public.id: public.address for public in addresses.values() if public.static_nat_nic_id is None}
    rows = (
        (rule.id, rule, texts[rule.public_ip_id], rule.guest_address or guests[rule.nic_id])
        for rule in intent.forwards
        if rule.public_ip_id in texts and rule.nic_id in guests
    )
    return extend(dump(nat, "forwards"), forwards=served.memo.join("nat.forwards", rows, _forward))


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
