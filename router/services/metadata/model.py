"""User data and metadata of the guests (guide: chapter 15.3 and the user data sections)."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from appliance.schema.problems import Problem, refuse, repeated
from appliance.schema.types import Address, Frozen, InterfaceName, IPv4Address, RuleId

ItemName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")]


def _base64(value: str) -> str:
    try:
        raw = base64.b64decode(value, validate=True)
    except ValueError as error:  # binascii.Error, or a character outside ASCII
        raise ValueError(f"must be base64: {error}") from error
    if len(raw) > 1024 * 1024:
        raise ValueError(f"must be at most 1 MB decoded, is {len(raw)} bytes")
    return value


class GuestMetadata(Frozen):
    """What the guest at ``address`` is told. Items with an empty value are not served and not listed."""

    id: RuleId
    address: Address
    items: dict[ItemName, str] = {}
    #: base64; decoded once and served as raw bytes. None: 404
    user_data: Annotated[str, AfterValidator(_base64)] | None = None


class Metadata(Frozen):
    """The metadata service on port 80 of the guest interfaces, and on 169.254.169.254."""

    interfaces: tuple[InterfaceName, ...]
    guests: tuple[GuestMetadata, ...] = ()
    #: interfaces whose guests must show a session token (PUT /latest/api/token)
    token_required: tuple[InterfaceName, ...] = ()

    @model_validator(mode="after")
    def _check(self) -> Metadata:
        refuse(self._problems())
        return self

    def _problems(self) -> Iterator[Problem]:
        for index, identity in repeated([guest.id for guest in self.guests]):
            yield ("guests", index, "id"), f"{identity} is given to two guests"
        for index, address in repeated([int(guest.address) for guest in self.guests]):
            yield ("guests", index, "address"), f"{IPv4Address(address)} is given to two guests"
        for index, name in enumerate(self.token_required):
            if name not in self.interfaces:
                yield ("token_required", index), f"{name} is not among interfaces"
