"""Passwords that guests fetch once (guide: password reset sections)."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import Field, SecretStr, field_serializer, model_validator

from appliance.schema.problems import Problem, refuse, repeated
from appliance.schema.types import Address, Frozen, InterfaceName, RuleId


class GuestPassword(Frozen):
    """A password waiting for the guest at ``address``.

    ``id`` is new for each reset: one that was fetched and confirmed is never served again, however often the
    document that holds it is applied.
    """

    id: RuleId
    address: Address
    password: SecretStr = Field(min_length=1, max_length=256)

    @field_serializer("password", when_used="json")
    def _reveal(self, value: SecretStr) -> str:
        # a document on its way to the appliance must hold it; repr() and logs do not
        return value.get_secret_value()


class Passwords(Frozen):
    """The password server on port 8080 of the guest interfaces."""

    interfaces: tuple[InterfaceName, ...]
    pending: tuple[GuestPassword, ...] = ()

    @model_validator(mode="after")
    def _check(self) -> Passwords:
        refuse(self._problems())
        return self

    def _problems(self) -> Iterator[Problem]:
        for index, identity in repeated([entry.id for entry in self.pending]):
            yield ("pending", index, "id"), f"{identity} is given twice"
        for index, address in repeated([entry.address for entry in self.pending]):
            yield ("pending", index, "address"), f"{address} is given two passwords"
