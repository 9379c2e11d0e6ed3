"""The filter on a host's ports: holds what is to be enforced, and makes the kernel enforce it.

Changes are atomic transactions in the network namespace of the bridges. The driver says which ports there are; a port
is set before its interface is made and removed after that is gone.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

from appliance.errors import ApplyError
from appliance.netfilter.kernel import Netfilter
from appliance.netfilter.ruleset import Ruleset
from controlplane.hypervisors.base import HypervisorError
from controlplane.hypervisors.portfilter.model import Port
from controlplane.hypervisors.portfilter.render import ruleset

#: runs a function in the network namespace of the bridges and returns its result
Inside = Callable[..., Any]


class PortFilter:
    """The filter of one network namespace. Safe to call from any thread."""

    def __init__(self, inside: Inside) -> None:
        self._inside = inside
        self._netfilter = Netfilter()
        self._lock = threading.Lock()
        self._ports: dict[str, Port] = {}
        #: what the kernel holds, as far as this process knows
        self._held: Ruleset | None = None

    def open(self, ports: Mapping[str, Port]) -> None:
        """Enforce exactly ``ports``, whatever the kernel holds. Raises HypervisorError."""
        with self._lock:
            self._held = None
            self._become(dict(ports))

    def set(self, name: str, port: Port) -> None:
        """Enforce a port, new or changed. Raises HypervisorError, and it is as it was."""
        with self._lock:
            if self._ports.get(name) != port:
                self._become({**self._ports, name: port})

    def remove(self, name: str) -> None:
        """Forget a port: an interface of that name passes nothing."""
        with self._lock:
            if name in self._ports:
                self._become({other: port for other, port in self._ports.items() if other != name})

    def _become(self, ports: dict[str, Port]) -> None:
        wanted = ruleset(ports)
        try:
            self._inside(self._netfilter.apply, self._held, wanted)
        except ApplyError as error:
            raise HypervisorError(f"the ports' filter cannot be changed: {error}") from error
        self._ports, self._held = ports, wanted
