"""Ingress and egress firewall of isolated networks (guide: chapters 15.12, 15.13). Deny first."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Annotated, Literal

from pydantic import Field, model_validator

from appliance.schema.problems import Problem, refuse, repeated
from appliance.schema.types import (
    Address,
    Flag,
    Frozen,
    Integer,
    InterfaceName,
    Network,
    PortRange,
    RuleId,
)

#: ICMP type or code; None matches any
IcmpNumber = Annotated[Integer, Field(ge=0, le=255)] | None


class _Match(Frozen):
    protocol: str
    ports: PortRange | None = None
    icmp_type: IcmpNumber = None
    icmp_code: IcmpNumber = None

    @model_validator(mode="after")
    def _check(self) -> _Match:
        refuse(self._problems())
        return self

    def _problems(self) -> Iterator[Problem]:
        if self.ports is not None and self.protocol not in ("tcp", "udp"):
            yield ("ports",), f"goes with protocol tcp or udp, not {self.protocol}"
        if self.protocol != "icmp" and self.icmp_type is not None:
            yield ("icmp_type",), f"goes with protocol icmp, not {self.protocol}"
        if self.icmp_code is not None and self.icmp_type is None:
            yield ("icmp_code",), "needs icmp_type"


class IngressRule(_Match):
    """Opens a public address to ``sources`` (empty: everyone). Without ``ports``, every port of the protocol."""

    id: RuleId
    address: Address
    protocol: Literal["tcp", "udp", "icmp"]
    sources: tuple[Network, ...] = ()

    @cached_property
    def number(self) -> int:
        """``address`` as a number; kept, because all of a long list are checked on every change."""
        return int(self.address)


class EgressRule(_Match):
    """An exception to a guest network's egress default. Empty sources or destinations mean all."""

    id: RuleId
    interface: InterfaceName
    protocol: Literal["tcp", "udp", "icmp", "all"]
    sources: tuple[Network, ...] = ()
    destinations: tuple[Network, ...] = ()


class EgressDefault(Frozen):
    """What guests behind ``interface`` may do without a rule; a rule then means the opposite."""

    interface: InterfaceName
    allow: Flag


class Firewall(Frozen):
    """The firewall of a router; whatever no rule opens is dropped."""

    ingress: tuple[IngressRule, ...] = ()
    egress: tuple[EgressRule, ...] = ()
    egress_defaults: tuple[EgressDefault, ...] = ()

    @model_validator(mode="after")
    def _check(self) -> Firewall:
        refuse(self._problems())
        return self

    def _problems(self) -> Iterator[Problem]:
        for index, identity in repeated([rule.id for rule in self.ingress]):
            yield ("ingress", index, "id"), f"{identity} is given twice"
        for index, identity in repeated([rule.id for rule in self.egress]):
            yield ("egress", index, "id"), f"{identity} is given twice"
        for index, interface in repeated([default.interface for default in self.egress_defaults]):
            yield ("egress_defaults", index, "interface"), f"{interface} has an egress default already"
        known = {default.interface for default in self.egress_defaults}
        for index, rule in enumerate(self.egress):
            if rule.interface not in known:
                yield ("egress", index, "interface"), f"{rule.interface} has no egress default; add one"
