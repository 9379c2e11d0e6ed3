"""Traffic counters per public address, guest and VPN user (guide: chapter 14)."""

from __future__ import annotations

from pydantic import model_validator

from appliance.schema.problems import refuse, repeated
from appliance.schema.types import Address, Flag, Frozen, RuleId


class Subject(Frozen):
    """Who has an address: its traffic is added to this id's total."""

    id: RuleId
    address: Address


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
    #: addresses of VPN users and connections inside their tunnels
    vpn: tuple[Subject, ...] = ()

    @model_validator(mode="after")
    def _check(self) -> Accounting:
        refuse(
            ((name, index, "address"), f"{address} belongs to two")
            for name in ("addresses", "vpn")
            for index, address in repeated([subject.address for subject in getattr(self, name)])
        )
        return self
