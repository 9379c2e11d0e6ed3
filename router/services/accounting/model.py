"""Traffic counters per public address, guest and VPN (guide: chapter 14)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from pydantic import Field, model_validator

from appliance.schema.problems import Problem, refuse, repeated
from appliance.schema.types import Address, Flag, Frozen, Network, RuleId


class Subject(Frozen):
    """Who has an address: its traffic is added to this id's total."""

    id: RuleId
    address: Address


class VpnSubject(Frozen):
    """What is behind a VPN: traffic from and to these networks is added to this id's total."""

    id: RuleId
    networks: Annotated[tuple[Network, ...], Field(min_length=1)]


class Accounting(Frozen):
    """Which addresses are counted follows from the interfaces and DHCP sections; this turns counting on.

    Guests' totals go by the ids of the DHCP section's hosts.
    """

    #: count each guest's traffic that crosses the router
    guests: Flag = True
    #: count each public address's traffic
    public: Flag = True
    #: ids of public addresses; one that is not here goes by its address
    addresses: tuple[Subject, ...] = ()
    #: site-to-site connections and remote access
    vpn: tuple[VpnSubject, ...] = ()

    @model_validator(mode="after")
    def _check(self) -> Accounting:
        refuse(
            (("addresses", index, "address"), f"{address} belongs to two")
            for index, address in repeated([subject.address for subject in self.addresses])
        )
        refuse(self._overlaps())
        return self

    def _overlaps(self) -> Iterator[Problem]:
        seen: list[Network] = []
        for index, subject in enumerate(self.vpn):
            for place, network in enumerate(subject.networks):
                yield from (
                    (("vpn", index, "networks", place), f"{network} overlaps {other}")
                    for other in seen
                    if network.overlaps(other)
                )
                seen.append(network)
