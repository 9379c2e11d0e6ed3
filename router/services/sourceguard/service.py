"""Source guard of networks that accounts share: rules about what guests send, and their MACs for what they are sent."""

from __future__ import annotations

from appliance.engine.service import BaseService, Change, Host, Rendered
from appliance.settings import Settings
from router.document import RouterState
from router.memo import EntryMemo
from router.services.sourceguard import neighbours
from router.services.sourceguard.render import elements, render


def _neighbours(state: RouterState | None) -> neighbours.Neighbours:
    return neighbours.wanted(state.sourceguard, state.interfaces) if state is not None else {}


class SourceGuardService(BaseService):
    name = "sourceguard"
    after = ("interfaces",)
    inputs = ("sourceguard", "interfaces")

    def __init__(self) -> None:
        self._memo = EntryMemo(elements)

    def render(self, state: RouterState, settings: Settings) -> Rendered:
        return Rendered(ruleset=render(state.sourceguard, self._memo)) if state.sourceguard else Rendered()

    def apply(self, change: Change, host: Host) -> None:
        before, after = _neighbours(change.before), _neighbours(change.after)
        neighbours.apply(None if change.force and after else before, after)

    def drift(self, state: RouterState, host: Host) -> str | None:
        return "; ".join(neighbours.missing(_neighbours(state))[:5]) or None


SERVICE = SourceGuardService()
