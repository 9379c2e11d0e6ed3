"""Traffic counters per public address and per guest (guide: chapter 14)."""

from __future__ import annotations

from appliance.schema.types import Flag, Frozen


class Accounting(Frozen):
    """Which addresses are counted follows from the interfaces and DHCP sections; this turns counting on."""

    #: count each guest's traffic that crosses the router
    guests: Flag = True
    #: count each public address's traffic
    public: Flag = True
