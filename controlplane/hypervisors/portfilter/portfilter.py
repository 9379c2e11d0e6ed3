"""The filter on a host's ports: holds what is to be enforced, and makes the kernel enforce it.

Changes are atomic transactions in the network namespace of the bridges. The driver says which ports there are; a port
is set before its interface is made and removed after that is gone. The control plane says what the policy is; the
newest one is kept in a file, so that the next process goes on with it.
"""

from __future__ import annotations

import json
import logging
import socket
import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from appliance.errors import ApplyError
from appliance.netfilter import libnftables
from appliance.netfilter.compare import differences
from appliance.netfilter.kernel import Netfilter
from appliance.netfilter.ruleset import Ruleset
from controlplane.hypervisors import policy as policies
from controlplane.hypervisors.base import HypervisorError
from controlplane.hypervisors.bridges import port_name, set_sysctl
from controlplane.hypervisors.policy import Policy
from controlplane.hypervisors.portfilter import connections, render, tracking
from controlplane.hypervisors.portfilter.model import Port
from controlplane.hypervisors.portfilter.tracking import Tracking
from controlplane.hypervisors.records import write_atomically

log = logging.getLogger(__name__)

#: runs a function in the network namespace of the bridges and returns its result
Inside = Callable[..., Any]

#: below /proc/sys/net: what br_netfilter shows of bridged packets to other hooks
_CALL_IPTABLES = "bridge/bridge-nf-call-iptables"
_CALL_OTHERS = ("bridge/bridge-nf-call-ip6tables", "bridge/bridge-nf-call-arptables")


class PortFilter:
    """The filter of one network namespace. Safe to call from any thread.

    ``file`` keeps the policy. ``own``: nobody else has bridges in the namespace.
    """

    def __init__(self, inside: Inside, file: Path, *, own: bool) -> None:
        self._inside = inside
        self._file = file
        self._own = own
        self._netfilter = Netfilter()
        self._lock = threading.Lock()
        self._ports: dict[str, Port] = {}
        self._policy = Policy()
        #: "none" until the first secured port
        self._way: Tracking = "none"
        #: what the kernel holds, as far as this process knows: table -> ruleset
        self._held: dict[str, Ruleset] = {}
        self._generation = 0

    def open(self, ports: Mapping[str, Port]) -> None:
        """Enforce exactly ``ports`` and the policy that was applied last. Raises HypervisorError."""
        with self._lock:
            self._held = {}
            self._become(dict(ports), self._load())
            # a process that was killed may have had no time for it
            self._cut()

    def set(self, name: str, port: Port) -> None:
        """Enforce a port, new or changed. Raises HypervisorError, and it is as it was."""
        with self._lock:
            old = self._ports.get(name)
            if old != port:
                self._become({**self._ports, name: port}, self._policy)
                if old is not None and set(old.addresses) - set(port.addresses):
                    self._cut(old)

    def remove(self, name: str) -> None:
        """Forget a port: an interface of that name passes nothing, and its connections are over."""
        with self._lock:
            if name in self._ports:
                gone = self._ports[name]
                self._become({other: port for other, port in self._ports.items() if other != name}, self._policy)
                if gone.secured:
                    self._cut(gone)

    def apply(self, policy: Policy) -> None:
        """Enforce a policy as a whole. What it does not let in any more ends. Raises HypervisorError."""
        with self._lock:
            before = self._policy
            if policy != before:
                self._become(self._ports, policy)
                write_atomically(self._file, json.dumps(policies.encode(policy)))
            if connections.narrowed(before, policy):
                self._cut()

    def repair(self) -> list[str]:
        """Set right what somebody else changed; what was wrong, in nft's words. Cheap when nothing was changed."""
        with self._lock:
            if self._inside(self._netfilter.generation) == self._generation:
                return []
            wrong = [line for held in self._held.values() for line in self._inside(differences, held)]
            if wrong:
                self._held = {}
                self._become(self._ports, self._policy)
            self._generation = self._inside(self._netfilter.generation)
            return wrong

    def forget(self) -> None:
        """Remove the filter from the kernel, and all that it knows."""
        with self._lock:
            for table in (render.TABLE, tracking.TABLE):
                # nft before 1.0.8 has no ``destroy``; adding one that is there does nothing
                self._inside(libnftables.run, f"add table {table}\ndelete table {table}\n")
            self._ports, self._held = {}, {}
            self._file.unlink(missing_ok=True)

    # --- the kernel -------------------------------------------------------------------------------------------

    def _become(self, ports: dict[str, Port], policy: Policy) -> None:
        try:
            self._inside(self._apply, ports, policy)
        except ApplyError as error:
            raise HypervisorError(f"the ports' filter cannot be changed: {error}") from error

    def _apply(self, ports: dict[str, Port], policy: Policy) -> None:
        """In the namespace."""
        secured = any(port.secured for port in ports.values())
        if secured and self._way == "none":
            self._way = tracking.available()
            if self._way == "none":
                raise HypervisorError(
                    "this host's kernel cannot track connections through bridges, which security groups need; load its "
                    "module nf_conntrack_bridge or br_netfilter"
                )
        zones = _zones(ports.values())
        membership = _membership(ports, policy)
        for wanted in render.rulesets(ports, membership, policy, way=self._way, zones=zones):
            self._netfilter.apply(self._held.get(wanted.table), wanted)
            self._held[wanted.table] = wanted
        if self._way == "marked":
            set_sysctl(_CALL_IPTABLES, "1")
        elif self._own:
            set_sysctl(_CALL_IPTABLES, "0")
        for name in _CALL_OTHERS if self._own else ():
            set_sysctl(name, "0")
        self._ports, self._policy = ports, policy
        self._generation = self._netfilter.generation()

    def _cut(self, *gone: Port) -> None:
        self._inside(self._cut_inside, gone)

    def _cut_inside(self, gone: tuple[Port, ...]) -> None:
        zones = _zones([*self._ports.values(), *gone])
        if zones:
            membership = _membership(self._ports, self._policy)
            number = connections.cut(self._ports, membership, self._policy, zones, gone)
            if number:
                log.info("ended %d connections that security groups do not allow any more", number)

    def _load(self) -> Policy:
        try:
            return policies.decode(json.loads(self._file.read_text()))
        except FileNotFoundError:
            return Policy()
        except (ValueError, KeyError, TypeError) as error:
            # guests with security groups get nothing through until the control plane has sent a new one
            log.error("%s is damaged (%s) and is left alone until there is a new policy", self._file, error)
            return Policy()


def _zones(ports: Iterable[Port]) -> dict[str, int]:
    """Conntrack zones (16 bits) of bridges with secured ports: their interface numbers, the same in every process."""
    zones: dict[str, int] = {}
    for bridge in sorted({port.bridge for port in ports if port.secured}):
        zone = _index(bridge) % 0xFFFF + 1
        while zone in zones.values():
            zone = zone % 0xFFFF + 1
        zones[bridge] = zone
    return zones


def _index(bridge: str) -> int:
    try:
        return socket.if_nametoindex(bridge)
    except OSError:
        return 0


def _membership(ports: Mapping[str, Port], policy: Policy) -> dict[str, tuple[str, ...] | None]:
    groups = {port_name(instance, mac): ids for (instance, mac), ids in policy.ports.items()}
    return {name: groups.get(name) for name, port in ports.items() if port.secured}
