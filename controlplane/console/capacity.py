"""How many console proxies a zone should have, and which one shows a guest's screen. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

#: seconds without an answer that mean nothing yet
BLINK = 5.0


@dataclass(frozen=True)
class Limits:
    """A zone's settings ``consoleproxy.*``; times in seconds."""

    disabled: bool
    minimum: int
    most: int
    session_max: int
    standby: int
    idle_wait: float
    restart_wait: float


@dataclass(frozen=True)
class Proxy:
    """A console proxy, in the order they were made. Times in seconds."""

    id: str
    #: as ``Appliance.state``
    state: str
    #: places taken
    sessions: int
    #: since nobody watched
    idle: float
    #: for which it has not answered; 0 when it does
    silent: float = 0.0
    #: something is being done to it
    busy: bool = False

    @property
    def serves(self) -> bool:
        return self.state == "Running" and not self.busy and self.silent < BLINK

    @property
    def stopped(self) -> bool:
        """An operator wants it so."""
        return self.state in ("Stopped", "Stopping") and not self.busy


@dataclass(frozen=True)
class Action:
    """What is to be done. ``proxy``: None to make one."""

    kind: Literal["launch", "boot", "restart", "remove"]
    proxy: str | None = None
    reason: str = ""


def plan(limits: Limits, proxies: Sequence[Proxy], *, wanted: bool) -> list[Action]:
    """What to do now. ``wanted``: somebody waits for a console that no proxy has room for."""
    if limits.disabled:
        return [Action("remove", one.id, "consoles are disabled in the zone") for one in proxies if not one.busy]
    actions = [action for one in proxies if not one.busy and (action := _repair(limits, one)) is not None]
    doomed = {action.proxy for action in actions if action.kind == "remove"}
    there = [one for one in proxies if one.id not in doomed and not one.stopped]
    begun = {action.proxy for action in actions}
    coming = [one for one in there if one.busy or one.id in begun]
    if _another(limits, there, coming, wanted):
        return [*actions, Action("launch")]
    if (spare := _spare(limits, there, wanted)) is not None and not actions:
        return [Action("remove", spare.id, "nobody needs it")]
    return actions


def _repair(limits: Limits, one: Proxy) -> Action | None:
    if one.state == "Starting":
        return Action("boot", one.id)
    if one.state == "Error":
        return Action("remove", one.id, "it could not be started")
    if one.state == "Running" and one.silent > limits.restart_wait:
        return Action("restart", one.id, f"it has not answered for {one.silent:.0f} s")
    return None


def _another(limits: Limits, there: Sequence[Proxy], coming: Sequence[Proxy], wanted: bool) -> bool:
    """Whether one more is needed. ``coming`` are of ``there`` and have room soon."""
    if len(there) >= limits.most:
        return False
    if len(there) < limits.minimum or (wanted and not there):
        return True
    free = sum(max(0, limits.session_max - one.sessions) for one in there if one.serves and one not in coming)
    if wanted and not free and not coming:
        return True
    free += sum(max(0, limits.session_max - one.sessions) for one in coming)
    # with a standby above what one proxy takes, an idle zone would fill up with proxies
    return any(one.sessions for one in there) and free < limits.standby


def _spare(limits: Limits, there: Sequence[Proxy], wanted: bool) -> Proxy | None:
    if wanted or len(there) <= limits.minimum or not all(one.serves for one in there):
        return None
    free = sum(max(0, limits.session_max - one.sessions) for one in there)
    watched = any(one.sessions for one in there)
    for one in reversed(there):
        if (
            one.sessions == 0
            and one.idle >= limits.idle_wait
            and (not watched or free - limits.session_max >= limits.standby)
        ):
            return one
    return None


def choose(limits: Limits, proxies: Sequence[Proxy], before: str | None) -> str | None:
    """The proxy for a guest that ``before`` served last: that one again, else the first with room; None when full."""
    roomy = [one.id for one in proxies if one.serves and one.sessions < limits.session_max]
    if before in roomy:
        return before
    return roomy[0] if roomy else None
