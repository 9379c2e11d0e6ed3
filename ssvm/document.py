"""SsvmState: the desired state of a secondary-storage VM, composed of its services' sections."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import model_validator

from appliance.schema.envelope import Document
from appliance.schema.problems import Problem, refuse
from appliance.schema.types import Frozen, Hostname
from appliance.services.interfaces.model import Interfaces
from appliance.services.shaping.model import Shaping
from ssvm.services.storage.model.section import Storage


class SsvmState(Frozen):
    """Everything a secondary-storage VM must be. A section that is absent turns its service off.

    ``interfaces``: ``control``, ``public`` and, where stores or internal sites are, ``management``, with
    ``interfaces.routes`` to those that are behind a gateway. ``shaping``: the rates of these, e.g. of the storage
    network, whatever comes and goes there (``storage.bandwidth`` is of downloads and copies alone).
    """

    hostname: Hostname
    interfaces: Interfaces
    shaping: Shaping | None = None
    storage: Storage | None = None

    @model_validator(mode="after")
    def _check(self) -> SsvmState:
        refuse(self._problems())
        return self

    def _problems(self) -> Iterator[Problem]:
        for index, nic in enumerate(self.interfaces.interfaces):
            if nic.role in ("guest", "private-gateway"):
                yield ("interfaces", "interfaces", index, "role"), f"a secondary-storage VM has no {nic.role} interface"
        names = {nic.name for nic in self.interfaces.interfaces if nic.role != "control"}
        for index, shaped in enumerate(self.shaping.interfaces if self.shaping is not None else ()):
            if shaped.interface not in names:
                yield (
                    ("shaping", "interfaces", index, "interface"),
                    f"there is no {shaped.interface} to limit",
                )


SsvmDocument = Document[SsvmState]

#: what the agent of a secondary-storage VM validates documents with
DOCUMENT = SsvmDocument
