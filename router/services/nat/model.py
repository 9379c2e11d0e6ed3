"""Source NAT, static NAT and port forwarding (guide: chapters 15.11, 15.14, 15.15)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import model_validator

from appliance.schema.problems import Problem, refuse, repeated
from appliance.schema.types import (
    Address,
    Frozen,
    InterfaceName,
    PortRange,
    RuleId,
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
            text = f"{self.guest_ports} must be as many ports as {self.ports}"
            refuse([(("guest_ports",), text)])
        return self


class Nat(Frozen):
    """All of a router's address translation."""

    source: tuple[SourceNat, ...] = ()
    static: tuple[StaticNat, ...] = ()
    forwards: Annotated[tuple[PortForward, ...], memoised("nat.forwards")] = ()

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
        # Integers, because hashing and comparing IPv4Address is slow and the list of forwards is long.
        static = {int(nat.address) for nat in self.static}
        order = []
        for index, forward in enumerate(self.forwards):
            number = int(forward.address)
            if number in static:
                text = f"{forward.address} is in use by static NAT, so no port of it can be forwarded"
                yield ("forwards", index, "address"), text
            order.append((number, str(forward.protocol), forward.ports.first, forward.ports.last, index))
        order.sort()
        # Of what was passed so far, only the range that reaches furthest can take a port of the next one.
        widest = (-1, "", 0, 0, 0)
        for this in order:
            same = this[:2] == widest[:2]
            if same and this[2] <= widest[3]:
                early, late = sorted((this[4], widest[4]))
                first, second = self.forwards[early], self.forwards[late]
                yield (
                    ("forwards", late, "ports"),
                    f"{second.id} takes {second.protocol} ports {second.ports} of {second.address}, "
                    f"of which {first.id} has {first.ports}",
                )
            if not same or this[3] > widest[3]:
                widest = this
