"""The envelope of a desired-state document: who it is for and which generation it is."""

from __future__ import annotations

from typing import Annotated, Generic, Literal, TypeVar

from pydantic import AfterValidator, Field

from appliance.schema.types import Frozen, Integer, InterfaceName, IPv4Interface, MacAddress, Port

Role = Literal["router", "ssvm", "consoleproxy"]
ApplianceId = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]

State = TypeVar("State", bound=Frozen)


class Document(Frozen, Generic[State]):
    """A whole desired state. Its digest is the SHA-256 of the bytes it travels as (RFC 9530 Content-Digest)."""

    kind: Role
    #: version of the schema that ``state`` follows; an appliance refuses one it does not know
    version: Literal[1] = 1
    id: ApplianceId
    generation: Annotated[Integer, Field(ge=1)]
    state: State


def _interface_address(value: str) -> str:
    IPv4Interface(value)
    return value


class ControlInterface(Frozen):
    """How the appliance finds and sets up the interface its agent listens on, before it has any document."""

    mac: MacAddress
    name: InterfaceName
    #: address with prefix length, e.g. ``169.254.3.7/16``
    address: Annotated[str, AfterValidator(_interface_address)]


class Identity(Frozen):
    """identity.json: what the hypervisor tells an appliance at boot, beside its CA, certificate and key."""

    id: ApplianceId
    role: Role
    control: ControlInterface
    port: Port = 9443
