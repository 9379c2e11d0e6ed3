"""A zone's console proxies as ``systemvms.capacity`` looks at them."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy.orm import Session

from controlplane.configuration import Configuration
from controlplane.console import sessions
from controlplane.convergence.reconciler import Reconciler
from controlplane.store.models import Zone, now
from controlplane.systemvms import capacity
from controlplane.systemvms import rows as systemvms
from controlplane.systemvms.capacity import Limits, SystemVm

ROLE = "consoleproxy"


def limits_of(configuration: Configuration, session: Session, zone: Zone) -> Limits:
    """The zone's settings. Consoles are disabled in a zone that is."""

    def number(name: str) -> int:
        return configuration.get_int(session, f"consoleproxy.{name}", zone=zone.id)

    return capacity.limits_of(
        number,
        # no new ones in a zone that an operator disabled
        open=zone.allocation_state == "Enabled",
        disabled=configuration.get_bool(session, "consoleproxy.disabled", zone=zone.id),
    )


def proxies_of(
    configuration: Configuration, session: Session, reconciler: Reconciler, zone_id: str, busy: Collection[str] = ()
) -> list[SystemVm]:
    """The zone's proxies, the oldest first. ``busy``: ids of those that something is being done to."""
    rows = systemvms.of_zone(session, zone_id, ROLE)
    load = sessions.load(session, [row.id for row in rows])
    return [
        SystemVm(
            id=row.id,
            state=row.state,
            sessions=load[row.id],
            idle=(now() - max(row.created, sessions.last_use(session, row.id) or row.created)).total_seconds(),
            silent=reconciler.silence(row.id),
            busy=row.id in busy,
        )
        for row in rows
    ]
