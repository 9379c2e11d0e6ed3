"""Load balancer rules."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Address, IPv4Network

from pydantic import SecretStr, ValidationError

from controlplane.convergence.compile.encoding import dump, reasons
from controlplane.convergence.compile.memo import CompileError
from controlplane.convergence.compile.served import Served
from controlplane.convergence.intent.rows import Balancer
from controlplane.network import stickiness
from router.services.loadbalancer.model import BalancedPort, Certificate, HealthCheck, LoadBalancer, Member


def section(served: Served) -> bytes | None:
    """The document's ``loadbalancer``; None without rules. Rules that end TLS wait for their first certificate."""
    intent, names, addresses = served.intent, served.names, served.addresses
    if not intent.balancers:
        return None
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
                raise CompileError(row.id, reasons(error)) from error
    balancer = LoadBalancer(
        rules=tuple(rules),
        certificates=tuple(Certificate(id=id, pem=SecretStr(pem)) for id, pem in sorted(intent.certificates)),
    )
    return dump(balancer)


def _balanced_port(
    row: Balancer, address: str, interface: str, guests: Mapping[str, str], certificates: tuple[str, ...]
) -> BalancedPort:
    members = sorted(IPv4Address(secondary or guests[nic]) for nic, secondary in row.members if nic in guests)
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
