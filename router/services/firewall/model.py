"""Ingress and egress firewall of isolated networks (guide: chapters 15.12, 15.13). Deny first."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from appliance.schema.types import (
    Address,
    Frozen,
    InterfaceName,
    IPv4Network,
    PortRange,
    RuleId,
    find_duplicates,
    memoised,
)

#: ICMP type or code; None matches any
IcmpNumber = Annotated[int, Field(ge=0, le=255, strict=True)] | None


class _Match(Frozen):
    protocol: str
    ports: PortRange | None = None
    icmp_type: IcmpNumber = None
    icmp_code: IcmpNumber = None

    @model_validator(mode="after")
    def _check(self) -> _Match:
        if self.ports is not None and self.protocol not in ("tcp", "udp"):
            raise ValueError(f"ports go with protocol tcp or udp, not {self.protocol}")
        if self.protocol != "icmp" and (self.icmp_type is not None or self.icmp_code is not None):
            raise ValueError(f"icmp_type and icmp_code go with protocol icmp, not {self.protocol}")
        if self.icmp_code is not None and self.icmp_type is None:
            raise ValueError("icmp_code needs icmp_type")
        return self


class IngressRule(_Match):
    """Opens a public address to ``sources`` (empty: everyone). Without ``ports``, every port of the protocol."""

    id: RuleId
    address: Address
    protocol: Literal["tcp", "udp", "icmp"]
    sources: tuple[IPv4Network, ...] = ()


class EgressRule(_Match):
    """An exception to a guest network's egress default. Empty sources or destinations mean all."""

    id: RuleId
    interface: InterfaceName
    protocol: Literal["tcp", "udp", "icmp", "all"]
    sources: tuple[IPv4Network, ...] = ()
    destinations: tuple[IPv4Network, ...] = ()


class EgressDefault(Frozen):
    """What guests behind ``interface`` may do without a rule; a rule then means the opposite."""

    interface: InterfaceName
    allow: bool


class Firewall(Frozen):
    """The firewall of a router; whatever no rule opens is dropped."""

    ingress: Annotated[tuple[IngressRule, ...], memoised("firewall.ingress")] = ()
    egress: Annotated[tuple[EgressRule, ...], memoised("firewall.egress")] = ()
    egress_defaults: tuple[EgressDefault, ...] = ()

    @model_validator(mode="after")
    def _check(self) -> Firewall:
        for what, values in (
            ("ingress: id", [rule.id for rule in self.ingress]),
            ("egress: id", [rule.id for rule in self.egress]),
            ("egress_defaults: interface", [default.interface for default in self.egress_defaults]),
        ):
            if twice := find_duplicates(values):
                raise ValueError(f"{what} {twice[0]} is given twice")
        known = {default.interface for default in self.egress_defaults}
        for rule in self.egress:
            if rule.interface not in known:
                raise ValueError(f"egress: {rule.id}: interface {rule.interface} has no egress default")
        return self
