"""ConsoleProxyState: the desired state of a console proxy, composed of its services' sections."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import model_validator

from appliance.schema.envelope import Document
from appliance.schema.problems import Problem, refuse
from appliance.schema.types import Frozen, Hostname
from appliance.services.interfaces.model import Interfaces
from consoleproxy.services.console.model import Console
from consoleproxy.services.dns.model import Dns


class ConsoleProxyState(Frozen):
    """Everything a console proxy must be. A section that is absent turns its service off."""

    hostname: Hostname
    interfaces: Interfaces
    console: Console | None = None
    dns: Dns | None = None

    @model_validator(mode="after")
    def _check(self) -> ConsoleProxyState:
        refuse(self._problems())
        return self

    def _problems(self) -> Iterator[Problem]:
        for index, nic in enumerate(self.interfaces.interfaces):
            if nic.role in ("guest", "private-gateway"):
                yield ("interfaces", "interfaces", index, "role"), f"a console proxy has no {nic.role} interface"
        if self.dns is not None and not self.dns.nameservers:
            for address in self.interfaces.public_addresses():
                if not self.dns.covers(address):
                    yield ("dns", "ranges"), f"{address}, which answers for the domain, is in none of the ranges"


ConsoleProxyDocument = Document[ConsoleProxyState]

#: what the agent of a console proxy validates documents with
DOCUMENT = ConsoleProxyDocument
