"""Interfaces of an appliance: NICs by their MAC, addresses, routes, kernel parameters.

A role that has interfaces makes ``services/interfaces/service.py`` with a ``SERVICE`` of this class or of one derived
from it.
"""

from __future__ import annotations

from typing import Any

from appliance.engine.service import BaseService, Change, Host, Rendered
from appliance.errors import ApplyError, ProbeError
from appliance.services.interfaces import kernel, sysctls
from appliance.services.interfaces.announce import announce
from appliance.services.interfaces.plan import LOCAL, MACHINE_SYSCTLS, Plan, plan
from appliance.services.interfaces.render import render
from appliance.settings import Settings


class InterfacesService(BaseService):
    """For a role whose state has a section ``interfaces``, and whose appliances forward no packets."""

    name = "interfaces"
    inputs: tuple[str, ...] = ("interfaces",)

    def plan(self, state: Any) -> Plan:
        """What the kernel must hold for ``state``."""
        return plan(state.interfaces)

    def render(self, state: Any, settings: Settings) -> Rendered:
        return Rendered(ruleset=render(state.interfaces))

    def apply(self, change: Change, host: Host) -> None:
        before = self.plan(change.before) if change.before is not None else None
        after = self.plan(change.after) if change.after is not None else None
        if before == after and not change.force:
            return
        links = before.links if before is not None else ()
        if after is None:
            # back to an appliance without a document: links down and empty, no routes, rules or forwarding
            after = Plan((), {}, frozenset(), frozenset(), {"net/ipv4/ip_forward": "0"})
        added = kernel.apply(after, gone=links)
        sysctls.write(after.sysctls)
        sysctls.write_if_ours(MACHINE_SYSCTLS)
        for interface, address in added:
            if address not in LOCAL:
                try:
                    announce(interface, address)
                except OSError as error:
                    raise ApplyError(f"{address} cannot be announced on {interface}: {error}") from error

    def drift(self, state: Any, host: Host) -> str | None:
        wanted = self.plan(state)
        wrong = kernel.differences(wanted)
        wrong += [f"sysctl {name.replace('/', '.')} is {now}" for name, now in sysctls.wrong(wanted.sysctls).items()]
        return "; ".join(wrong[:5]) or None

    def probe(self, state: Any, host: Host) -> None:
        if wrong := kernel.differences(self.plan(state)):
            raise ProbeError("; ".join(wrong[:5]))
