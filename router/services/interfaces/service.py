"""Interfaces of the router: those of every appliance, metadata's address on guest interfaces, and forwarding."""

from __future__ import annotations

from appliance.engine.service import Rendered
from appliance.services.interfaces.plan import Plan, plan
from appliance.services.interfaces.service import InterfacesService
from appliance.settings import Settings
from router.document import RouterState
from router.services.interfaces.render import METADATA_ADDRESS, render


class RouterInterfacesService(InterfacesService):
    inputs = ("interfaces", "nat", "metadata")

    def plan(self, state: RouterState) -> Plan:
        served = state.metadata.interfaces if state.metadata else ()
        return plan(state.interfaces, dict.fromkeys(served, METADATA_ADDRESS), forward=True)

    def render(self, state: RouterState, settings: Settings) -> Rendered:
        return Rendered(ruleset=render(state.interfaces, state.nat))


SERVICE = RouterInterfacesService()
