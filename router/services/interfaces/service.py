"""Interfaces of the router: NICs by their MAC, addresses, routes, policy routing, kernel parameters."""

from __future__ import annotations

from appliance.engine.service import BaseService, Change, Host, Rendered
from appliance.errors import ApplyError, ProbeError
from appliance.settings import Settings
from router.document import RouterState
from router.services.interfaces import kernel, sysctls
from router.services.interfaces.announce import announce
from router.services.interfaces.plan import MACHINE_SYSCTLS, METADATA_ADDRESS, Plan, plan
from router.services.interfaces.render import render


def _plan(state: RouterState) -> Plan:
    return plan(state.interfaces, state.metadata.interfaces if state.metadata else ())


class InterfacesService(BaseService):
    name = "interfaces"
    inputs = ("interfaces", "nat", "metadata")

    def render(self, state: RouterState, settings: Settings) -> Rendered:
        return Rendered(ruleset=render(state.interfaces, state.nat))

    def apply(self, change: Change, host: Host) -> None:
        before = _plan(change.before) if change.before is not None else None
        after = _plan(change.after) if change.after is not None else None
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
            if address != METADATA_ADDRESS.ip:
                try:
                    announce(interface, address)
                except OSError as error:
                    raise ApplyError(f"{address} cannot be announced on {interface}: {error}") from error

    def drift(self, state: RouterState, host: Host) -> str | None:
        wanted = _plan(state)
        wrong = kernel.differences(wanted)
        wrong += [f"sysctl {name.replace('/', '.')} is {now}" for name, now in sysctls.wrong(wanted.sysctls).items()]
        return "; ".join(wrong[:5]) or None

    def probe(self, state: RouterState, host: Host) -> None:
        if wrong := kernel.differences(_plan(state)):
            raise ProbeError("; ".join(wrong[:5]))


SERVICE = InterfacesService()
