"""Ingress and egress rules."""

from __future__ import annotations

import json
from ipaddress import IPv4Address, IPv4Network
from typing import Any

from appliance.schema.types import PortRange
from controlplane.convergence.compile.encoding import dump, object_of
from controlplane.convergence.compile.served import Served
from controlplane.convergence.intent.rows import Filter
from router.services.firewall.model import EgressDefault, EgressRule, IngressRule


def section(served: Served) -> bytes:
    """The document's ``firewall``."""
    intent, names, memo = served.intent, served.names, served.memo
    texts = {public.id: public.address for public in served.addresses.values()}
    ingress = ((rule.id, rule, texts[rule.public_ip_id]) for rule in intent.filters if rule.public_ip_id in texts)
    egress = (
        (rule.id, rule, names[rule.network_id])
        for rule in intent.filters
        if rule.public_ip_id is None and rule.network_id in served.ids
    )
    defaults = [
        dump(EgressDefault(interface=names[network.id], allow=network.egress_allow)) for network in served.networks
    ]
    return object_of(
        {
            "ingress": memo.join("firewall.ingress", ingress, _ingress),
            "egress": memo.join("firewall.egress", egress, _egress),
            "egress_defaults": b"[" + b",".join(defaults) + b"]",
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
