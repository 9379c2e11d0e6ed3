"""Events: the record, for people, of what was done and what went wrong."""

from __future__ import annotations

from typing import Literal

from sqlalchemy.orm import Session

from controlplane.store.models import Event

Level = Literal["INFO", "WARN", "ERROR"]
State = Literal["Created", "Scheduled", "Started", "Completed"]

#: Types recorded by the system rather than by a command (those declare their own): type -> what it tells.
SYSTEM_EVENTS = {
    "ROUTER.HEALTH.CHECKS": "a router's probes began to fail, or pass again",
    "ROUTER.REPAIR": "a router found something changed behind its back and repaired it",
    "ROUTER.ALERT": "a router cannot be reached, or answers again",
    "ROUTER.CREATE": "a network got its router",
    "PROXY.CREATE": "a zone got a console proxy",
    "PROXY.HA": "a console proxy that did not answer was restarted or replaced",
    "PROXY.HEALTH.CHECKS": "a console proxy's probes began to fail, or pass again",
    "PROXY.REPAIR": "a console proxy found something changed behind its back and repaired it",
    "PROXY.ALERT": "a console proxy cannot be reached, or answers again",
    "VNC.CONNECT": "somebody began to watch a guest's screen",
    "VNC.DISCONNECT": "somebody stopped watching a guest's screen",
    "VPN.S2S.CONNECTED": "a site-to-site VPN connection came up",
    "VPN.S2S.DISCONNECTED": "a site-to-site VPN connection went down",
    "VPN.USER.CONNECT": "a VPN user connected to a remote access VPN",
    "VPN.USER.DISCONNECT": "a VPN user's connection to a remote access VPN ended",
    "ALERT.USAGE.SANITY": "usage records that cannot be right",
    "HOST.EVICT": "a router or system VM was stopped because its host goes into maintenance",
    "SG.REPAIR": "somebody changed the filter of guests' ports behind the control plane's back, and it was repaired",
    "SSVM.CREATE": "a zone got a secondary storage VM",
    "SSVM.HA": "a secondary storage VM that did not answer was restarted or replaced",
    "SSVM.HEALTH.CHECKS": "a secondary storage VM's probes began to fail, or pass again",
    "SSVM.REPAIR": "a secondary storage VM found something changed behind its back and repaired it",
    "SSVM.ALERT": "a secondary storage VM cannot be reached, or answers again",
    "IMAGESTORE.HEALTH": "an image store does not work, or works again",
    **{
        f"{kind}.{doing}.{word}": f"{what} {text}"
        for kind, what in (("TEMPLATE", "a template"), ("ISO", "an ISO"))
        for doing, comes in (
            ("DOWNLOAD", "downloaded"),
            ("UPLOAD", "uploaded"),
            ("COPY", "copied to a zone"),
            ("CREATE", "made"),
        )
        for word, text in (
            ("START", f"is being {comes}"),
            ("SUCCESS", f"was {comes} and is ready"),
            ("FAILED", f"could not be {comes}"),
            ("LOST", f"is being {comes}, and the connection was lost; it goes on"),
        )
    },
    "NETWORK.GC": "a network without guests was shut down",
}


def record(
    session: Session,
    type: str,
    description: str,
    *,
    account_id: str,
    user_id: str | None = None,
    level: Level = "INFO",
    state: State = "Completed",
    resource: tuple[str, str] | None = None,
    start_event_id: str | None = None,
) -> Event:
    """Add an event in the caller's transaction. ``resource`` is (API type, id), e.g. ``("Network", id)``."""
    resource_type, resource_id = resource or (None, None)
    event = Event(
        type=type,
        level=level,
        state=state,
        description=description if len(description) <= 1024 else description[:1021] + "...",
        account_id=account_id,
        user_id=user_id,
        resource_type=resource_type,
        resource_id=resource_id,
        start_event_id=start_event_id,
    )
    session.add(event)
    session.flush()
    return event
