"""Source NAT, static NAT and port forwarding (guide: chapters 15.11, 15.14, 15.15)."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Literal

from pydantic import model_validator

from appliance.schema.problems import Problem, refuse, repeated
from appliance.schema.types import (
    Address,
    Frozen,
    InterfaceName,
    PortRange,
    RuleId,
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

    @cached_property
    def span(self) -> tuple[int, str, int, int]:
        """Address as a number, protocol, first and last port.

        Kept, because all of a long list are compared on every change, and IPv4Address is slow to hash and compare.
        """
        return int(self.address), self.protocol, self.ports.first, self.ports.last

    @model_validator(mode="after")
    def _check(self) -> PortForward:
        if len(self.ports) != len(self.guest_ports):
            text = f"{self.guest_ports} must be as many ports as {self.ports}"
            refuse([(("guest_ports",), text)])
        return self


class Nat(Frozen):
    """All of a router's address translation."""

    source: tuple[SourceNat, ...] = ()
    static: tuple[StaticNat, ...] = ()
    forwards: tuple[PortForward, ...] = ()

    @model_validator(mode="after")
    def _check(self) -> Nat:
        refuse(self._problems())
        return self

    def _problems(self) -> Iterator[Problem]:
        for index, interface in repeated([nat.interface for nat in self.source]):
            yield ("source", index, "interface"), f"{interface} has source NAT already"
        for index, address in repeated([nat.address for nat in self.static]):
            yield ("static", index, "address"), f"{address} is in use by static NAT already"
        for index, guest in repeated([nat.guest for nat in self.static]):
            yield ("static", index, "guest"), f"{guest} has static NAT already"
        for index, identity in repeated([forward.id for forward in self.forwards]):
            yield ("forwards", index, "id"), f"{identity} is given twice"
        yield from self._address_problems()

    def _address_problems(self) -> Iterator[Problem]:
        static = {int(nat.address) for nat in self.static}
        order = sorted((forward.span, index) for index, forward in enumerate(self.forwards))
        # Of what was passed so far, only the range that reaches furthest can take a port of the next one.
        widest, holder = (-1, "", 0, 0), 0
        for span, index in order:
            address, protocol, first, last = span
            if address in static:
                text = f"{self.forwards[index].address} is in use by static NAT, so no port of it can be forwarded"
                yield ("forwards", index, "address"), text
            same = address == widest[0] and protocol == widest[1]
            if same and first <= widest[3]:
                yield self._overlap(*sorted((index, holder)))
            if not same or last > widest[3]:
                widest, holder = span, index

    def _overlap(self, early: int, late: int) -> Problem:
        first, second = self.forwards[early], self.forwards[late]
        return (
            ("forwards", late, "ports"),
            f"{second.id} takes {second.protocol} ports {second.ports} of {second.address}, "
            f"of which {first.id} has {first.ports}",
        )
