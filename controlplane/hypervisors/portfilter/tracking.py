"""Connections through bridges: how the filter knows that a packet belongs to one that was let in.

Two ways, by what the kernel has:

* ``bridge``: connection tracking of the bridge family (nf_conntrack_bridge, in Debian's kernels): the filter reads
  ``ct state`` itself.
* ``marked``: br_netfilter, for kernels without. It shows bridged packets to the hooks of IPv4 first, where a second
  table reads the state and leaves it to the filter as the packet's mark.

Each bridge is a conntrack zone, for networks of different tenants have the same addresses. Of the bridges with guests
only those with secured ports are tracked, and only unicast: broadcasts are judged one by one. Bridges of others are
left alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal

from appliance.netfilter.libnftables import NftError, run
from appliance.netfilter.ruleset import Ruleset, Set

Tracking = Literal["bridge", "marked", "none"]

#: beside the filter's own table
TABLE = "inet gatehouse-states"
_BR_NETFILTER = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")

#: connections begin at their beginning: one that was cut is not picked up in mid-stream, by whichever end
_BEGINNING = "tcp flags & (fin | syn | rst | ack) != syn goto invalid"
#: what the forward chain begins with; ``invalid`` is a chain of the filter
GATES: Mapping[Tracking, tuple[str, ...]] = {
    "bridge": ("ct state vmap { established : accept, related : accept, invalid : goto invalid }", _BEGINNING),
    "marked": ("meta mark vmap { 1 : accept, 2 : goto invalid }", _BEGINNING),
    "none": (),
}


def available() -> Tracking:
    """What this kernel has, in the calling thread's network namespace."""
    # the module is loaded by the kernel when the first rule asks for it
    trial = (
        "add table bridge gatehouse-trial\nadd chain bridge gatehouse-trial c\n"
        "add rule bridge gatehouse-trial c ct state established accept\n"
    )
    try:
        run(trial, dry_run=True)
    except NftError:
        return "marked" if _BR_NETFILTER.exists() else "none"
    return "bridge"


def zones_of(zones: Mapping[str, int], bridges: Iterable[str], bridge_key: str) -> Ruleset:
    """The chain that puts packets into zones (bridge -> number) and leaves those of ``bridges`` without one untracked.

    ``bridge_key`` is what names the bridge there.
    """
    return Ruleset(
        # before connection tracking (-200)
        chains={"zones": "type filter hook prerouting priority -250; policy accept;"},
        rules={
            "zones": (
                (0, f"meta pkttype {{ broadcast, multicast }} {bridge_key} @bridges notrack accept"),
                (1, f"ct zone set {bridge_key} map @zones accept"),
                (2, f"{bridge_key} @bridges notrack"),
            )
        },
        sets={
            "bridges": Set("type ifname;", {f'"{name}"': "" for name in bridges}),
            "zones": Set(
                "typeof iifname : ct zone;", {f'"{name}"': str(zone) for name, zone in zones.items()}, is_map=True
            ),
        },
    )


def states(zones: Mapping[str, int], bridges: Iterable[str]) -> Ruleset:
    """The table of the marked way. br_netfilter gives the bridge as the interface that a packet came from."""
    first = zones_of(zones, bridges, "iifname")
    mark = "iifname @bridges meta mark set ct state map { established : 1, related : 1, invalid : 2 }"
    return Ruleset(
        table=TABLE,
        chains={**first.chains, "marks": "type filter hook prerouting priority -150; policy accept;"},
        # a packet that crosses two bridges keeps the first one's mark
        rules={"zones": ((-1, "iifname @bridges meta mark set 0"), *first.rules["zones"]), "marks": ((0, mark),)},
        sets=first.sets,
    )
