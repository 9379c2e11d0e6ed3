"""The tunnels' interface, its addresses, and on the kernel plane the routes into it, over rtnetlink(7) (pyroute2).

The routes stay while a tunnel is down: the interface then drops what is meant for it. In userspace interface and
routes are charon's.
"""

from __future__ import annotations

import socket
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address, IPv4Network
from typing import Any

from appliance.errors import ApplyError
from appliance.run import run
from appliance.services.interfaces.plan import MAIN_TABLE
from router.services.vpn.plane import IF_ID, INTERFACE, MTU

#: rtnetlink's protocol number of these routes
PROTOCOL = 218


def bring(networks: Collection[IPv4Network]) -> None:
    """Have the interface, with routes to ``networks`` and no others. Raises ApplyError."""
    with _netlink() as netlink:
        found = netlink.link_lookup(ifname=INTERFACE)
        if not found:
            netlink.link("add", ifname=INTERFACE, kind="xfrm", xfrm_if_id=IF_ID)
            found = netlink.link_lookup(ifname=INTERFACE)
        index = found[0]
        netlink.link("set", index=index, mtu=MTU, state="up")
        routed = _routed(netlink, index)
        for network in sorted(routed - set(networks)):
            netlink.route("del", table=MAIN_TABLE, dst=str(network), oif=index, proto=PROTOCOL)
        for network in sorted(set(networks) - routed):
            netlink.route("replace", table=MAIN_TABLE, dst=str(network), oif=index, proto=PROTOCOL)


def missing(networks: Collection[IPv4Network]) -> str | None:
    """What of ``bring`` somebody undid, None when nothing."""
    with _netlink() as netlink:
        found = netlink.link_lookup(ifname=INTERFACE)
        if not found:
            return f"no interface {INTERFACE}"
        lost = set(networks) - _routed(netlink, found[0])
        return f"no route to {min(lost)} by {INTERFACE}" if lost else None


def hold(addresses: Collection[IPv4Address]) -> None:
    """Have these addresses, this router's own, on the interface too, and no others. Raises ApplyError.

    dnsmasq answers by TCP only where the interface that was asked has an address, and the kernel's ICMP errors to
    clients have one that they may come from.
    """
    with _netlink() as netlink:
        for index in netlink.link_lookup(ifname=INTERFACE):
            held = _held(netlink, index)
            for address in sorted(held - set(addresses)):
                netlink.addr("del", index=index, address=str(address), prefixlen=32)
            for address in sorted(set(addresses) - held):
                netlink.addr("add", index=index, address=str(address), prefixlen=32)


def unheld(addresses: Collection[IPv4Address]) -> str | None:
    """What of ``hold`` is undone, None when nothing: an interface that charon made anew has no address."""
    with _netlink() as netlink:
        for index in netlink.link_lookup(ifname=INTERFACE):
            if lost := set(addresses) - _held(netlink, index):
                return f"no address {min(lost)} on {INTERFACE}"
    return None


def remove() -> None:
    """Have no interface; its routes go with it. Raises ApplyError."""
    with _netlink() as netlink:
        for index in netlink.link_lookup(ifname=INTERFACE):
            netlink.link("del", index=index)


def forget() -> None:
    """End what a charon that was killed left in the kernel. Raises CommandError."""
    run(["ip", "xfrm", "policy", "flush"])
    run(["ip", "xfrm", "state", "flush"])


def _held(netlink: Any, index: int) -> set[IPv4Address]:
    messages = netlink.get_addr(family=socket.AF_INET, index=index)
    return {IPv4Address(message.get("IFA_LOCAL")) for message in messages}


def _routed(netlink: Any, index: int) -> set[IPv4Network]:
    return {
        IPv4Network((message.get("RTA_DST"), message["dst_len"]))
        for message in netlink.get_routes(family=socket.AF_INET)
        if message["proto"] == PROTOCOL and message.get("RTA_OIF") == index
    }


@contextmanager
def _netlink() -> Iterator[Any]:
    from appliance.rtnetlink import IPRoute, NetlinkError

    with IPRoute() as netlink:
        try:
            yield netlink
        except NetlinkError as error:
            raise ApplyError(f"interface {INTERFACE} of the VPN cannot be set up: {error}") from error
