"""Source NAT, static NAT and port forwarding (guide: chapters 15.11, 15.14, 15.15)."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal

from pydantic import model_validator

from appliance.schema.types import (
    Address,
    Frozen,
    InterfaceName,
    PortRange,
    RuleId,
    find_duplicates,
    memoised,
)


class SourceNat(Frozen):
    """Guests behind ``interface`` (a guest network) leave by a public interface as ``address``."""

    interface: InterfaceName
    address: Address


class StaticNat(Frozen):
    """``address`` is the guest's own public address, both directions."""

    address: Address
    guest: Address


class PortForward(Frozen):
    """Ports of a public address go to a guest; ``ports`` and ``guest_ports`` have the same length."""

    id: RuleId
    address: Address
    protocol: Literal["tcp", "udp"]
    ports: PortRange
    guest: Address
    guest_ports: PortRange

    @model_validator(mode="after")
    def _check(self) -> PortForward:
        if len(self.ports) != len(self.guest_ports):
            raise ValueError(f"ports {self.ports} and guest_ports {self.guest_ports} differ in length")
        return self


class Nat(Frozen):
    """All of a router's address translation."""

    source: tuple[SourceNat, ...] = ()
    static: tuple[StaticNat, ...] = ()
    forwards: Annotated[tuple[PortForward, ...], memoised("nat.forwards")] = ()

    @model_validator(mode="after")
    def _check(self) -> Nat:
        for what, values in (
            ("source: interface", [nat.interface for nat in self.source]),
            ("static: address", [nat.address for nat in self.static]),
            ("static: guest", [nat.guest for nat in self.static]),
            ("forwards: id", [forward.id for forward in self.forwards]),
        ):
            if twice := find_duplicates(values):
                raise ValueError(f"{what} {twice[0]} is given twice")
        static = {nat.address for nat in self.static}
        by_target: dict[tuple[object, str], list[PortForward]] = {}
        for forward in self.forwards:
            if forward.address in static:
                raise ValueError(f"forwards: {forward.id}: {forward.address} is in use by static NAT")
            by_target.setdefault((forward.address, forward.protocol), []).append(forward)
        for forwards in by_target.values():
            forwards.sort(key=lambda forward: forward.ports.first)
            for low, high in pairwise(forwards):
                if high.ports.first <= low.ports.last:
                    raise ValueError(
                        f"forwards: {high.id} and {low.id} both take {low.protocol} ports {high.ports} of {low.address}"
                    )
        return self
