"""Network rates of a router's interfaces."""

from __future__ import annotations

from appliance.schema.limits import HIGHEST_RATE
from appliance.services.shaping.model import ShapedInterface, Shaping
from controlplane.convergence.compile.encoding import dump
from controlplane.convergence.compile.served import Served


def section(served: Served) -> bytes | None:
    """The document's ``shaping``; None when nothing is limited."""
    rates = {network.id: network.rate for network in served.networks}
    # what the networks share is as fast as the fastest of them
    public = 0 if 0 in rates.values() else max(rates.values(), default=0)
    shaped = tuple(
        ShapedInterface(interface=nic.name, mbit=rate)
        for nic in served.intent.nics
        if nic.role in ("guest", "public")
        and 0 < (rate := public if nic.role == "public" else rates.get(nic.network, 0)) <= HIGHEST_RATE
    )
    return dump(Shaping(interfaces=shaped)) if shaped else None
