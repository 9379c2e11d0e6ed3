"""Types shared by the models of every appliance."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)

__all__ = [
    "Domain",
    "Frozen",
    "Hostname",
    "IPv4Address",
    "IPv4Interface",
    "IPv4Network",
    "InterfaceName",
    "MacAddress",
    "Memo",
    "Port",
    "PortRange",
    "RuleId",
    "find_duplicates",
    "memoised",
]


class Frozen(BaseModel):
    """Base of every model in a document: immutable, and unknown fields are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def _interface_name(value: str) -> str:
    # IFNAMSIZ is 16 with the terminating zero; the rest would need quoting in nft and dnsmasq files
    if not re.fullmatch(r"[a-z][a-z0-9_.-]{0,14}", value):
        raise ValueError("must be 1 to 15 of a-z, 0-9, '_', '.', '-' and begin with a letter")
    return value


def _mac(value: str) -> str:
    value = value.lower()
    if not re.fullmatch(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}", value):
        raise ValueError("must be six hexadecimal pairs joined by ':'")
    if int(value[:2], 16) & 1:
        raise ValueError("must be a unicast address")
    return value


def _hostname(value: str) -> str:
    # RFC 1123 section 2.1: one label
    if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?", value):
        raise ValueError("must be 1 to 63 letters, digits or '-', and not begin or end with '-'")
    return value


def _domain(value: str) -> str:
    if len(value) > 190:
        raise ValueError("must be at most 190 characters")
    for label in value.split("."):
        _hostname(label)
    return value


def _ipv4_address(value: object) -> object:
    # ipaddress also takes integers and packed bytes; a document holds dotted quads only
    if isinstance(value, int | bytes):
        raise ValueError("must be an IPv4 address in dotted notation")
    return value


InterfaceName = Annotated[str, AfterValidator(_interface_name)]
MacAddress = Annotated[str, AfterValidator(_mac)]
Hostname = Annotated[str, AfterValidator(_hostname)]
Domain = Annotated[str, AfterValidator(_domain)]
Address = Annotated[IPv4Address, BeforeValidator(_ipv4_address)]
Port = Annotated[int, Field(ge=1, le=65535, strict=True)]
#: identity of one entry of a list, the control plane's UUID for it
RuleId = Annotated[str, Field(pattern=r"^[A-Za-z0-9._:-]{1,64}$")]


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


@dataclass
class Memo:
    """Entries of the long lists of the document parsed last, so that a new document costs what changed in it.

    Passed as the validation context: ``RouterState.model_validate(raw, context=memo)``. An entry whose raw form is
    the same as last time is the same frozen object again; only new entries are validated one by one.
    """

    entries: dict[str, dict[str, tuple[object, Any]]] = field(default_factory=dict)


def memoised(name: str) -> WrapValidator:
    """Validator for a ``tuple[Model, ...]`` field whose entries carry ``id``; ``name`` is unique to the field."""

    def validate(value: Any, handler: ValidatorFunctionWrapHandler, info: ValidationInfo) -> Any:
        memo = info.context
        if not isinstance(memo, Memo) or not isinstance(value, list):
            return handler(value)
        known = memo.entries.get(name, {})
        mixed = []
        for raw in value:
            hit = known.get(raw["id"]) if isinstance(raw, dict) and isinstance(raw.get("id"), str) else None
            mixed.append(hit[1] if hit is not None and hit[0] == raw else raw)
        models = handler(mixed)
        memo.entries[name] = {model.id: (raw, model) for raw, model in zip(value, models, strict=True)}
        return models

    return WrapValidator(validate)


def find_duplicates(values: list[Any], describe: Callable[[Any], str] = str) -> list[str]:
    """Descriptions of the values that stand more than once, in order of their second appearance."""
    seen: set[Any] = set()
    return [describe(value) for value in values if value in seen or seen.add(value)]  # type: ignore[func-returns-value]
