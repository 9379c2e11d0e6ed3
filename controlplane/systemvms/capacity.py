"""How many system VMs of a role a zone should have, and which one serves next. Pure.

Sessions are what a role counts: open consoles of a console proxy, jobs and links of an SSVM.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

#: seconds without an answer that mean nothing yet
BLINK = 5.0


@dataclass(frozen=True)
class Limits:
    """A zone's settings; times in seconds."""

    disabled: bool
    minimum: int
    most: int
    session_max: int
    standby: int
    idle_wait: float
    restart_wait: float


def limits_of(number: Callable[[str], int], *, open: bool, disabled: bool = False) -> Limits:
    """The limits of a zone whose settings ``number`` looks up by the end of their names.

    ``open``: it gets new ones by itself; those that are there serve on in any case.
    """
    return Limits(
        disabled=disabled,
        minimum=number("minimum") if open else 0,
        most=number("launch.max"),
        session_max=number("session.max"),
        standby=number("capacity.standby"),
        idle_wait=number("idle.wait"),
        restart_wait=number("restart.wait"),
    )


@dataclass(frozen=True)
class SystemVm:
    """A system VM, in the order they were made. Times in seconds."""

    id: str
    #: as ``Appliance.state``
    state: str
    #: places taken
    sessions: int
    #: since nobody used it
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
    """What is to be done. ``vm_id``: None to make one."""

    kind: Literal["launch", "boot", "restart", "remove"]
    vm_id: str | None = None
    reason: str = ""


def plan(limits: Limits, vms: Sequence[SystemVm], *, wanted: bool) -> list[Action]:
    """What to do now. ``wanted``: somebody waits for room that none has."""
    if limits.disabled:
        return [Action("remove", one.id, "consoles are disabled in the zone") for one in vms if not one.busy]
    actions = [action for one in vms if not one.busy and (action := _repair(limits, one)) is not None]
    doomed = {action.vm_id for action in actions if action.kind == "remove"}
    there = [one for one in vms if one.id not in doomed and not one.stopped]
    begun = {action.vm_id for action in actions}
    coming = [one for one in there if one.busy or one.id in begun]
    if _another(limits, there, coming, wanted):
        return [*actions, Action("launch")]
    if (spare := _spare(limits, there, wanted)) is not None and not actions:
        return [Action("remove", spare.id, "nobody needs it")]
    return actions


def _repair(limits: Limits, one: SystemVm) -> Action | None:
    if one.state == "Starting":
        return Action("boot", one.id)
    if one.state == "Error":
        return Action("remove", one.id, "it could not be started")
    if one.state == "Running" and one.silent > limits.restart_wait:
        return Action("restart", one.id, f"it has not answered for {one.silent:.0f} s")
    return None


def _another(limits: Limits, there: Sequence[SystemVm], coming: Sequence[SystemVm], wanted: bool) -> bool:
    """Whether one more is needed. ``coming`` are of ``there`` and have room soon."""
    if len(there) >= limits.most:
        return False
    if len(there) < limits.minimum or (wanted and not there):
        return True
    free = sum(max(0, limits.session_max - one.sessions) for one in there if one.serves and one not in coming)
    if wanted and not free and not coming:
        return True
    free += sum(max(0, limits.session_max - one.sessions) for one in coming)
    # with a standby above what one takes, an idle zone would fill up with them
    return any(one.sessions for one in there) and free < limits.standby


def _spare(limits: Limits, there: Sequence[SystemVm], wanted: bool) -> SystemVm | None:
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


def choose(limits: Limits, vms: Sequence[SystemVm], before: str | None) -> str | None:
    """The one for what ``before`` served last: that one again, else the first with room; None when full."""
    roomy = [one.id for one in vms if one.serves and one.sessions < limits.session_max]
    if before in roomy:
        return before
    return roomy[0] if roomy else None
