"""The ingress and egress firewall."""

from __future__ import annotations

from appliance.engine.service import BaseService, Change, Host, Rendered
from appliance.settings import Settings
from router.document import RouterState
from router.services.firewall.connections import cut
from router.services.firewall.model import Firewall
from router.services.firewall.render import Memos, render


class FirewallService(BaseService):
    name = "firewall"
    after = ("interfaces", "nat")
    inputs = ("firewall", "interfaces")

    def __init__(self) -> None:
        self._memos = Memos()

    def render(self, state: RouterState, settings: Settings) -> Rendered:
        # without a section nothing is open, but the router still answers a ping from its guests
        return Rendered(ruleset=render(state.firewall or Firewall(), state.interfaces, self._memos))

    def apply(self, change: Change, host: Host) -> None:
        if change.before is not None and change.after is not None:
            cut(change.before, change.after)


SERVICE = FirewallService()
