"""Types shared by the models of every appliance."""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    SecretStr,
    model_validator,
)

from appliance.schema.limits import HIGHEST_RATE

__all__ = [
    "Address",
    "Domain",
    "Flag",
    "Frozen",
    "Hostname",
    "IPv4Address",
    "IPv4Interface",
    "IPv4Network",
    "Integer",
    "InterfaceAddress",
    "InterfaceName",
    "MacAddress",
    "Mtu",
    "Network",
    "Port",
    "PortRange",
    "Rate",
    "RuleId",
    "Secret",
]


class Frozen(BaseModel):
    """Base of every model in a document: immutable, and unknown fields are errors.

    Errors do not print the refused values, for these may be secret.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


# IFNAMSIZ is 16 with the terminating zero; other characters would need quoting in nft and dnsmasq files
INTERFACE_NAME = r"[a-z][a-z0-9_.-]{0,14}"
MAC = r"[0-9a-f]{2}(:[0-9a-f]{2}){5}"
# RFC 1123 section 2.1: one label
LABEL = r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"


def _interface_name(value: str) -> str:
    if not re.fullmatch(INTERFACE_NAME, value):
        raise ValueError("must be 1 to 15 of a-z, 0-9, '_', '.', '-' and begin with a letter")
    return value


def _mac(value: str) -> str:
    value = value.lower()
    if not re.fullmatch(MAC, value):
        raise ValueError("must be six hexadecimal pairs joined by ':'")
    if int(value[:2], 16) & 1:
        raise ValueError("must be a unicast address")
    return value


def _hostname(value: str) -> str:
    if not re.fullmatch(LABEL, value):
        raise ValueError("must be 1 to 63 letters, digits or '-', and not begin or end with '-'")
    return value


def _domain(value: str) -> str:
    if len(value) > 190:
        raise ValueError("must be at most 190 characters")
    for label in value.split("."):
        _hostname(label)
    return value


def _dotted(value: object) -> object:
    # ipaddress also takes integers, packed bytes and tuples; a document holds text only
    if isinstance(value, int | bytes | list | tuple):
        raise ValueError("must be text in dotted notation")
    return value


def _with_prefix(value: object) -> object:
    if isinstance(value, str) and "/" not in value:
        raise ValueError("must have a prefix length, as in 10.1.1.1/24")
    return _dotted(value)


def _shown(pattern: str) -> Any:
    # for the JSON Schema only: what it does not match is refused with a sentence instead
    return Field(json_schema_extra={"pattern": f"^{pattern}$"})


InterfaceName = Annotated[str, AfterValidator(_interface_name), _shown(INTERFACE_NAME)]
#: written in lower case; upper case is accepted
MacAddress = Annotated[str, AfterValidator(_mac), _shown(MAC.replace("a-f", "A-Fa-f"))]
Hostname = Annotated[str, AfterValidator(_hostname), _shown(LABEL)]
Domain = Annotated[str, AfterValidator(_domain), _shown(rf"{LABEL}(\.{LABEL})*")]
Address = Annotated[IPv4Address, BeforeValidator(_dotted)]
#: an address with its prefix length, e.g. ``10.1.1.1/24``
InterfaceAddress = Annotated[IPv4Interface, BeforeValidator(_with_prefix)]
#: a CIDR without host bits
Network = Annotated[IPv4Network, BeforeValidator(_dotted)]
# strict: pydantic otherwise takes "5" and true for a number, and "off" and 0 for a boolean
Integer = Annotated[int, Field(strict=True)]
Flag = Annotated[bool, Field(strict=True)]
Port = Annotated[Integer, Field(ge=1, le=65535)]
#: bytes; RFC 791 wants every host to take 576
Mtu = Annotated[Integer, Field(ge=576, le=65535)]
#: Mbit/s
Rate = Annotated[Integer, Field(ge=1, le=HIGHEST_RATE)]
#: identity of one entry of a list, the control plane's UUID for it
RuleId = Annotated[str, Field(pattern=r"^[A-Za-z0-9._:-]{1,64}$")]
#: not shown by ``repr``, and in a document as it is
Secret = Annotated[SecretStr, PlainSerializer(SecretStr.get_secret_value, return_type=str, when_used="json")]


class PortRange(Frozen):
    """An inclusive range of TCP or UDP ports; one port when both ends are equal."""

    first: Port
    last: Port

    @model_validator(mode="after")
    def _ordered(self) -> PortRange:
        if self.last < self.first:
            raise ValueError(f"last ({self.last}) must not be below first ({self.first})")
        return self

    def __len__(self) -> int:
        return self.last - self.first + 1

    def __str__(self) -> str:
        return str(self.first) if self.first == self.last else f"{self.first}-{self.last}"
