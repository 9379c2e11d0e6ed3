"""The rate of a network interface, in each direction, by token buckets (tc-tbf(8)).

What leaves waits in a bucket on the interface. What arrives is redirected (tc-mirred(8)) to a twin, an ``ifb`` device
that exists for this alone, waits in a bucket there and goes on as if it came in just now. Beware: nftables chains of
the netdev family on an interface see nothing of what is redirected; chains of the bridge and inet families see it all.

Changing a rate keeps what is queued and loses nothing. Switching shaping on or off for an interface that is up
makes the kernel change its queue, which loses what comes in that moment (less than a millisecond).
"""

from __future__ import annotations

import errno
import socket
import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from appliance.schema.limits import HIGHEST_RATE

#: our buckets have this handle, so that nobody else's is taken for one
_HANDLE = 0x6748_0000
_ROOT, _INGRESS = 0xFFFF_FFFF, 0xFFFF_0000
_ETHERNET = 14
_ETH_P_ALL = 0x0003
#: tcm_info of our filters: priority, and protocol in network order
_ETH_P_ALL_PRIORITY_1 = 1 << 16 | socket.htons(_ETH_P_ALL)
#: A bucket holds what may go out at once: this many seconds at its rate, so that a processor that comes late loses
#: nothing, and two frames at least. A larger packet (of TCP segmentation, 64 KiB) is cut into frames by the kernel.
_DEPTH = 0.02
#: a queue holds this many seconds at its rate, and what TCP needs to get going at least
_QUEUE, _LEAST_QUEUE = 0.05, 32_768
#: seconds for a queue to empty before it is removed
_DRAIN = 1.0


@dataclass(frozen=True)
class Shape:
    """The rate of one interface: ``mbit`` Mbit/s of IP packets in each direction.

    0, or more than HIGHEST_RATE, is no limit.
    """

    interface: str
    mbit: int
    #: name of the interface's twin
    twin: str
    mtu: int = 1500

    @property
    def limited(self) -> bool:
        return 0 < self.mbit <= HIGHEST_RATE


@dataclass(frozen=True)
class Bucket:
    """A token bucket as the kernel has it: bytes a second, clock ticks that fill it, bytes that wait at most."""

    rate: int
    ticks: int
    limit: int
    #: bytes that ``ticks`` stand for; the kernel does not tell
    depth: int = field(default=0, compare=False)


def bucket(mbit: int, mtu: int) -> Bucket:
    """The bucket for ``mbit`` Mbit/s (1 to HIGHEST_RATE) on an interface of ``mtu``."""
    from appliance.rtnetlink import calc_xmittime

    # the kernel counts the Ethernet header with each packet, the rate is of what is in it
    rate = mbit * 125_000 * (mtu + _ETHERNET) // mtu
    depth = max(2 * (mtu + _ETHERNET), int(rate * _DEPTH))
    return Bucket(rate, calc_xmittime(rate, depth), depth + max(_LEAST_QUEUE, int(rate * _QUEUE)), depth)


def apply(netlink: Any, shape: Shape) -> None:
    """Bring an interface of this thread's network namespace, where ``netlink`` (IPRoute) is too, to ``shape``.

    Doing so twice changes nothing. Raises pyroute2's NetlinkError, or OSError when there is no such interface.
    """
    index = socket.if_nametoindex(shape.interface)
    if not shape.limited:
        _release(netlink, index, shape.twin)
        return
    wanted = bucket(shape.mbit, shape.mtu)
    if (twin := find(shape.twin)) is None:
        netlink.link("add", ifname=shape.twin, kind="ifb")
        twin = socket.if_nametoindex(shape.twin)
    _fill(netlink, twin, wanted)
    netlink.link("set", index=twin, mtu=shape.mtu, state="up")
    with _accepting(errno.EEXIST):
        netlink.tc("add", "ingress", index)
    if _redirection(netlink, index) != twin:
        _redirect(netlink, index, twin)
    # last, so that an interface with the right bucket has all the rest too
    _fill(netlink, index, wanted)


def remove_twin(netlink: Any, twin: str) -> None:
    """Remove what is left of an interface that is gone itself."""
    if (index := find(twin)) is not None:
        with _accepting(errno.ENODEV):
            netlink.link("del", index=index)


def differences(netlink: Any, shapes: Iterable[Shape]) -> list[str]:
    """What is not as ``apply`` leaves it; [] when all is."""
    found, wrong = buckets(netlink), []
    for shape in shapes:
        index, twin = find(shape.interface), find(shape.twin)
        if index is None:
            wrong.append(f"there is no interface {shape.interface}")
        elif not shape.limited:
            if index in found or twin is not None:
                wrong.append(f"{shape.interface} has a limit, which is not in the document")
        elif found.get(index) != (wanted := bucket(shape.mbit, shape.mtu)):
            wrong.append(f"what leaves by {shape.interface} is not limited to {shape.mbit} Mbit/s")
        elif twin is None or found.get(twin) != wanted or _redirection(netlink, index) != twin:
            wrong.append(f"what arrives by {shape.interface} is not limited to {shape.mbit} Mbit/s")
    return wrong


def buckets(netlink: Any) -> dict[int, Bucket]:
    """All of our buckets in the namespace, by interface index."""
    found = {}
    for message in _ours(netlink):
        parms = message.get("TCA_OPTIONS").get("TCA_TBF_PARMS")
        found[message["index"]] = Bucket(parms["rate"], parms["buffer"], parms["limit"])
    return found


def find(name: str) -> int | None:
    """Index of an interface, if there is one of that name."""
    try:
        return socket.if_nametoindex(name)
    except OSError:
        return None


def _ours(netlink: Any) -> Iterator[Any]:
    for message in netlink.get_qdiscs():
        if message["handle"] == _HANDLE and message.get("TCA_KIND") == "tbf":
            yield message


def _fill(netlink: Any, index: int, wanted: Bucket) -> None:
    # replacing one of the same handle changes it in place
    netlink.tc("replace", "tbf", index, _HANDLE, rate=wanted.rate, burst=wanted.depth, limit=wanted.limit)


def _redirect(netlink: Any, index: int, twin: int) -> None:
    """Send what arrives at interface ``index`` to ``twin``, and nowhere else."""
    with _accepting(errno.ENOENT, errno.EINVAL):
        netlink.tc("del-filter", index=index, parent=_INGRESS, info=_ETH_P_ALL_PRIORITY_1)
    netlink.tc(
        "add-filter",
        "u32",
        index,
        parent=_INGRESS,
        prio=1,
        protocol=_ETH_P_ALL,
        target=0x10000,
        # every packet
        keys=["0x0/0x0+0"],
        action={"kind": "mirred", "direction": "egress", "action": "redirect", "ifindex": twin},
    )


def _redirection(netlink: Any, index: int) -> int | None:
    """Index of the interface that what arrives at ``index`` is sent to."""
    for message in netlink.get_filters(index=index, parent=_INGRESS):
        options = message.get("TCA_OPTIONS")
        actions = options.get("TCA_U32_ACT") if options is not None else None
        for _, action in actions["attrs"] if actions is not None else ():
            parms = action.get("TCA_ACT_OPTIONS").get("TCA_MIRRED_PARMS")
            if parms is not None:
                target: int = parms["ifindex"]
                return target
    return None


def _release(netlink: Any, index: int, twin_name: str) -> None:
    limited, twin = buckets(netlink), find(twin_name)
    if twin is None and index not in limited:
        return
    # what is queued leaves at the highest rate before the queue goes
    queues = {one for one in (twin, index) if one is not None and one in limited}
    for one in queues:
        _fill(netlink, one, bucket(HIGHEST_RATE, 1500))
    with _accepting(errno.ENOENT, errno.EINVAL):
        netlink.tc("del", "ingress", index)
    deadline = time.monotonic() + _DRAIN
    while _backlog(netlink, queues) and time.monotonic() < deadline:
        time.sleep(0.005)
    remove_twin(netlink, twin_name)
    if index in queues:
        with _accepting(errno.ENOENT, errno.EINVAL):
            netlink.tc("del", index=index, handle=_HANDLE, parent=_ROOT)


def _backlog(netlink: Any, indexes: Collection[int]) -> int:
    """Bytes that wait in our buckets on these interfaces."""
    waiting = (m.get("TCA_STATS2").get("TCA_STATS_QUEUE") for m in _ours(netlink) if m["index"] in indexes)
    return sum(queue["backlog"] for queue in waiting)


@contextmanager
def _accepting(*numbers: int) -> Iterator[None]:
    """Take an error with one of these numbers to mean that the thing is so already."""
    from appliance.rtnetlink import NetlinkError

    try:
        yield
    except NetlinkError as error:
        if error.code not in numbers:
            raise
