"""Network rates of an appliance's interfaces (guide: chapter 8.3)."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from appliance.schema.problems import refuse, repeated
from appliance.schema.types import Frozen, InterfaceName, Rate


class ShapedInterface(Frozen):
    """The rate of one interface. An interface without an entry is not limited."""

    # the name of its twin has four characters more
    interface: Annotated[InterfaceName, Field(max_length=11)]
    #: of IP packets, in each direction
    mbit: Rate


class Shaping(Frozen):
    """Rates of all interfaces but control, which has none."""

    interfaces: tuple[ShapedInterface, ...] = ()

    @model_validator(mode="after")
    def _check(self) -> Shaping:
        refuse(
            (("interfaces", index, "interface"), f"{name} has two rates")
            for index, name in repeated([shaped.interface for shaped in self.interfaces])
        )
        return self
