"""Source guard of networks that accounts share: rules only."""

from __future__ import annotations

from appliance.engine.service import BaseService, Rendered
from appliance.settings import Settings
from router.document import RouterState
from router.memo import EntryMemo
from router.services.sourceguard.render import elements, render


class SourceGuardService(BaseService):
    name = "sourceguard"
    after = ("interfaces",)
    inputs = ("sourceguard",)

    def __init__(self) -> None:
        self._memo = EntryMemo(elements)

    def render(self, state: RouterState, settings: Settings) -> Rendered:
        return Rendered(ruleset=render(state.sourceguard, self._memo)) if state.sourceguard else Rendered()


SERVICE = SourceGuardService()
