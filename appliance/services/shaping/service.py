"""Network rates of an appliance's interfaces, by token buckets in the kernel (appliance/shaping.py)."""

from __future__ import annotations

import time
from typing import Any, Protocol

from appliance import shaping
from appliance.engine.service import BaseService, Change, Host
from appliance.errors import ApplyError, ProbeError
from appliance.services.interfaces.model import Interfaces
from appliance.services.shaping.model import Shaping
from appliance.shaping import Shape

#: seconds between two looks for drift
LOOK_EVERY = 5.0
_ETHERNET_MTU = 1500


class State(Protocol):
    """What a role's state must have."""

    @property
    def interfaces(self) -> Interfaces: ...
    @property
    def shaping(self) -> Shaping | None: ...


def shapes(state: State | None) -> tuple[Shape, ...]:
    """The rate of every interface but control, which no section limits."""
    if state is None:
        return ()
    rates = {shaped.interface: shaped.mbit for shaped in state.shaping.interfaces} if state.shaping else {}
    return tuple(
        Shape(nic.name, rates.get(nic.name, 0), f"ifb-{nic.name}", nic.mtu or _ETHERNET_MTU)
        for nic in state.interfaces.interfaces
        if nic.role != "control"
    )


class ShapingService(BaseService):
    name = "shaping"
    after = ("interfaces",)
    inputs = ("shaping", "interfaces")

    def __init__(self) -> None:
        self._looked = float("-inf")

    def apply(self, change: Change, host: Host) -> None:
        from appliance.rtnetlink import IPRoute, NetlinkError

        before, after = shapes(change.before), shapes(change.after)
        if before == after and not change.force:
            return
        kept = {shape.twin for shape in after}
        with IPRoute() as netlink:
            try:
                for shape in before:
                    if shape.twin not in kept:
                        _let_go(netlink, shape)
                for shape in after:
                    if shape.limited or change.force or shape not in before:
                        shaping.apply(netlink, shape)
            except NetlinkError as error:
                raise ApplyError(
                    f"rates cannot be set: {error}; the kernel needs sch_tbf, sch_ingress, cls_u32, act_mirred and ifb"
                ) from error
            except OSError as error:
                raise ApplyError(f"rates cannot be set: {error}") from error

    def drift(self, state: State, host: Host) -> str | None:
        now = time.monotonic()
        if state.shaping is None or now - self._looked < LOOK_EVERY:
            return None
        self._looked = now
        return _wrong(state)

    def probe(self, state: State, host: Host) -> None:
        if state.shaping is not None and (wrong := _wrong(state)):
            raise ProbeError(wrong)


def _let_go(netlink: Any, shape: Shape) -> None:
    """The interface is the appliance's no longer; it may be gone, or have another name."""
    if shaping.find(shape.interface) is None:
        shaping.remove_twin(netlink, shape.twin)
    else:
        shaping.apply(netlink, Shape(shape.interface, 0, shape.twin))


def _wrong(state: State) -> str | None:
    from appliance.rtnetlink import IPRoute

    with IPRoute() as netlink:
        return "; ".join(shaping.differences(netlink, shapes(state))) or None
