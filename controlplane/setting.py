"""What a setting of an operator is: its name, type and default, and which values it takes."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from controlplane.errors import ParameterError
from controlplane.timezones import zone

Kind = Literal["Integer", "Factor", "Boolean", "String", "CIDR", "Networks", "Range", "Timezone"]
Scope = Literal["zone", "domain", "account"]
#: the narrowest first
SCOPES: tuple[Scope, ...] = ("account", "domain", "zone")


@dataclass(frozen=True)
class Setting:
    """One setting. ``default`` is text as in the API; ``minimum``/``maximum`` are of integers."""

    name: str
    category: str
    default: str
    kind: Kind
    description: str
    scopes: tuple[Scope, ...] = ()
    minimum: int = -1
    maximum: int = 2**31 - 1
    #: read only when the control plane starts
    restart: bool = False
    #: what a text must match, and that in words
    pattern: str = ""
    form: str = ""

    def check(self, value: str) -> str:
        """The value as it is stored. Raises ParameterError naming the setting and what it takes."""
        text = value.strip()
        if self.kind == "Integer":
            try:
                number = int(text) if len(text) <= 12 else None
            except ValueError:
                number = None
            if number is None or not self.minimum <= number <= self.maximum:
                raise ParameterError(f"{self.name} takes a whole number from {self.minimum} to {self.maximum}")
            return str(number)
        if self.kind == "Boolean":
            if text.lower() not in ("true", "false"):
                raise ParameterError(f"{self.name} takes true or false")
            return text.lower()
        if self.kind in _CHECKS:
            return _CHECKS[self.kind](self.name, text)
        if len(text) > 4095:
            raise ParameterError(f"{self.name} takes at most 4095 characters")
        if self.pattern and not re.fullmatch(self.pattern, text):
            raise ParameterError(f"{self.name} takes {self.form}")
        return text


def _cidr(name: str, text: str) -> str:
    try:
        return str(ipaddress.IPv4Network(text))
    except ValueError as error:
        raise ParameterError(f"{name} takes an IPv4 network such as 10.1.1.0/24: {error}") from None


def _networks(name: str, text: str) -> str:
    try:
        return ",".join(str(ipaddress.IPv4Network(part.strip())) for part in text.split(",")) if text else ""
    except ValueError as error:
        raise ParameterError(f"{name} takes networks such as 10.1.2.0/24, separated by commas: {error}") from None


def _range(name: str, text: str) -> str:
    try:
        low, high = (ipaddress.IPv4Address(part.strip()) for part in text.split("-"))
    except ValueError:
        raise ParameterError(f"{name} takes a range such as 10.1.2.1-10.1.2.8") from None
    if low > high:
        raise ParameterError(f"{name}: the first address is above the last")
    return f"{low}-{high}"


def _factor(name: str, text: str) -> str:
    """How many times something is to count."""
    if not re.fullmatch(r"\d{1,3}(\.\d{1,6})?", text) or not 1 <= float(text) <= 100:
        raise ParameterError(f"{name} takes a number from 1 to 100, such as 2.0")
    return text


def _timezone(name: str, text: str) -> str:
    try:
        zone(text)
    except ValueError as error:
        raise ParameterError(f"{name}: {error}; it takes names such as America/New_York") from None
    return text


_CHECKS: Mapping[Kind, Callable[[str, str], str]] = {
    "CIDR": _cidr,
    "Factor": _factor,
    "Networks": _networks,
    "Range": _range,
    "Timezone": _timezone,
}


def words(text: str) -> tuple[str, ...]:
    """The entries of a setting that is a list."""
    return tuple(part for word in text.split(",") if (part := word.strip()))
