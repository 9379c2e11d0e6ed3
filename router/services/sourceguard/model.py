"""Which MAC may send from which address where guests of several accounts share a segment (RFC 7039: SAVI)."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import model_validator

from appliance.schema.problems import Problem, refuse, repeated
from appliance.schema.types import Address, Frozen, InterfaceName, IPv4Address, MacAddress, RuleId


class Source(Frozen):
    """An address of a guest's NIC, the primary one or a secondary one."""

    id: RuleId
    mac: MacAddress
    address: Address


class SourceGuard(Frozen):
    """On ``interfaces`` the router serves nobody but ``sources``."""

    interfaces: tuple[InterfaceName, ...]
    sources: tuple[Source, ...] = ()

    @model_validator(mode="after")
    def _check(self) -> SourceGuard:
        refuse(self._problems())
        return self

    def _problems(self) -> Iterator[Problem]:
        for index, identity in repeated([source.id for source in self.sources]):
            yield ("sources", index, "id"), f"{identity} is given twice"
        for index, number in repeated([int(source.address) for source in self.sources]):
            yield ("sources", index, "address"), f"{IPv4Address(number)} is given to two NICs"
