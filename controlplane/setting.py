"""What a setting of an operator is: its name, type and default, and which values it takes."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Literal

from controlplane.errors import ParameterError

Kind = Literal["Integer", "Boolean", "String", "CIDR", "Range"]
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
        if self.kind == "CIDR":
            try:
                return str(ipaddress.IPv4Network(text))
            except ValueError as error:
                raise ParameterError(f"{self.name} takes an IPv4 network such as 10.1.1.0/24: {error}") from None
        if self.kind == "Range":
            try:
                low, high = (ipaddress.IPv4Address(part.strip()) for part in text.split("-"))
            except ValueError:
                raise ParameterError(f"{self.name} takes a range such as 10.1.2.1-10.1.2.8") from None
            if low > high:
                raise ParameterError(f"{self.name}: the first address is above the last")
            return f"{low}-{high}"
        if len(text) > 4095:
            raise ParameterError(f"{self.name} takes at most 4095 characters")
        if self.pattern and not re.fullmatch(self.pattern, text):
            raise ParameterError(f"{self.name} takes {self.form}")
        return text
