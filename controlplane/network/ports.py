"""Protocols, port ranges and ICMP numbers of rules, as clients give them."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import ColumnElement, or_, true
from sqlalchemy.orm import InstrumentedAttribute

from controlplane.errors import ParameterError

PORT_PROTOCOLS = ("tcp", "udp")

#: the protocol numbers (IANA) that clients may give instead of the names
_NUMBERS = {"6": "tcp", "17": "udp", "1": "icmp"}


@dataclass(frozen=True)
class Ports:
    """An inclusive range of TCP or UDP ports."""

    first: int
    last: int

    def __len__(self) -> int:
        return self.last - self.first + 1

    def __str__(self) -> str:
        return str(self.first) if self.first == self.last else f"{self.first}-{self.last}"


@dataclass(frozen=True)
class Traffic:
    """What a firewall rule matches besides addresses. ``ports`` None: every port; an ICMP number None: any."""

    protocol: str
    ports: Ports | None = None
    icmp_type: int | None = None
    icmp_code: int | None = None

    def __str__(self) -> str:
        return f"{self.protocol} {self.ports}" if self.ports else self.protocol


def parse_protocol(value: str, allowed: tuple[str, ...]) -> str:
    """A protocol in lower case; ParameterError when it is not one of ``allowed``."""
    protocol = _NUMBERS.get(value.strip(), value.strip().lower())
    if protocol not in allowed:
        raise ParameterError(f"protocol: {value!r} is not one of {', '.join(allowed)}")
    return protocol


def parse_ports(start: int, end: int | None, start_name: str, end_name: str) -> Ports:
    """A range from its ends; one port without ``end``. ParameterError outside 1 to 65535 or when reversed."""
    last = start if end is None else end
    for name, value in ((start_name, start), (end_name, last)):
        if not 1 <= value <= 65535:
            raise ParameterError(f"{name}: {value} is not a port, they go from 1 to 65535")
    if last < start:
        raise ParameterError(f"{start_name} {start} is above {end_name} {last}")
    return Ports(start, last)


def parse_traffic(
    protocol: str,
    allowed: tuple[str, ...],
    *,
    start_port: int | None = None,
    end_port: int | None = None,
    icmp_type: int | None = None,
    icmp_code: int | None = None,
) -> Traffic:
    """A firewall rule's match. ICMP numbers of -1 (any) become None. ParameterError when the fields do not fit."""
    name = parse_protocol(protocol, allowed)
    if name not in PORT_PROTOCOLS and (start_port is not None or end_port is not None):
        raise ParameterError(f"startport and endport go with protocol tcp or udp, not {name}")
    if name != "icmp":
        if icmp_type is not None or icmp_code is not None:
            raise ParameterError(f"icmptype and icmpcode go with protocol icmp, not {name}")
        if start_port is None:
            if end_port is not None:
                raise ParameterError("endport needs startport")
            return Traffic(name)
        return Traffic(name, ports=parse_ports(start_port, end_port, "startport", "endport"))
    for parameter, value in (("icmptype", icmp_type), ("icmpcode", icmp_code)):
        if value is not None and not -1 <= value <= 255:
            raise ParameterError(f"{parameter}: {value} is not -1 (any) or 0 to 255")
    wanted_type = None if icmp_type == -1 else icmp_type
    wanted_code = None if icmp_code == -1 else icmp_code
    if wanted_type is None and wanted_code is not None:
        raise ParameterError("icmpcode needs an icmptype other than -1 (any)")
    return Traffic(name, icmp_type=wanted_type, icmp_code=wanted_code)


def overlaps(
    first: InstrumentedAttribute[int | None], last: InstrumentedAttribute[int | None], ports: Ports | None
) -> ColumnElement[bool]:
    """SQL: the row's range shares a port with ``ports``; null columns, and ``ports`` None, are every port."""
    if ports is None:
        return true()
    return or_(first.is_(None), (first <= ports.last) & (last >= ports.first))
