"""Names of system VMs: ``aaa-bbb-ccc-ddd.<domain>`` stands for the address aaa.bbb.ccc.ddd (guide: chapter 16.3)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from pydantic import Field, model_validator

from appliance.schema.problems import Problem, refuse
from appliance.schema.types import Address, Domain, Frozen, Integer, IPv4Address


class AddressRange(Frozen):
    """Addresses from ``first`` to ``last``, both included."""

    first: Address
    last: Address

    @model_validator(mode="after")
    def _ordered(self) -> AddressRange:
        if self.last < self.first:
            raise ValueError(f"last ({self.last}) must not be below first ({self.first})")
        return self


class Dns(Frozen):
    """A name server with authority for ``domain``, on port 53 of the public addresses."""

    domain: Domain
    #: the zone's public ranges: other addresses have no name
    ranges: tuple[AddressRange, ...]
    #: addresses of all the domain's name servers, for its NS records; this proxy's own when empty
    nameservers: tuple[Address, ...] = ()
    #: seconds that an answer may be kept; the name of an address never means another one
    ttl: Annotated[Integer, Field(ge=0, le=604_800)] = 3600

    def covers(self, address: IPv4Address) -> bool:
        """Whether ``address`` has a name."""
        return any(one.first <= address <= one.last for one in self.ranges)

    @model_validator(mode="after")
    def _check(self) -> Dns:
        refuse(self._problems())
        return self

    def _problems(self) -> Iterator[Problem]:
        for index, address in enumerate(self.nameservers):
            if not self.covers(address):
                yield ("nameservers", index), f"{address} is in none of the ranges, so it has no name"
