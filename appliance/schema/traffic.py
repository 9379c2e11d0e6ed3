"""GET /v1/traffic: how many bytes each metered address has sent and received, in totals that only grow."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from appliance.schema.types import Frozen

#: what an address belongs to: the router itself, a guest's NIC, a VPN user or connection
Kind = Literal["public", "guest", "vpn"]
Bytes = Annotated[int, Field(ge=0)]


class Counter(Frozen):
    """The totals of one subject since ``Traffic.epoch`` began, in bytes of IP packets as seen from the subject."""

    #: the control plane's id of it; its address where none was given
    id: str
    kind: Kind
    #: the one it has, or had last
    address: str
    received: Bytes
    sent: Bytes


class Traffic(Frozen):
    """Totals as they are on the appliance's disk, so that they never fall while ``epoch`` is the same.

    A reader that keeps what it took in last counts every byte once: the difference while the epoch is the same, all
    of it in a new one. A subject that is gone is told of for some days more.
    """

    #: names the life of the totals; another one means that they began at zero again
    epoch: str
    #: when the counters were read, UNIX seconds
    taken: float
    counters: tuple[Counter, ...] = ()
