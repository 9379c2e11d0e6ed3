"""Source NAT, static NAT and port forwarding."""

from __future__ import annotations

from appliance.engine.service import BaseService, Change, Host, Rendered
from appliance.settings import Settings
from router.document import RouterState
from router.memo import EntryMemo
from router.services.nat.connections import cut
from router.services.nat.render import forward_elements, render


class NatService(BaseService):
    name = "nat"
    after = ("interfaces",)
    inputs = ("nat", "interfaces")

    def __init__(self) -> None:
        self._memo = EntryMemo(forward_elements)

    def render(self, state: RouterState, settings: Settings) -> Rendered:
        return Rendered(ruleset=render(state.nat, state.interfaces, self._memo)) if state.nat else Rendered()

    def apply(self, change: Change, host: Host) -> None:
        if change.before is not None and change.after is not None:
            cut(change.before, change.after)


SERVICE = NatService()
