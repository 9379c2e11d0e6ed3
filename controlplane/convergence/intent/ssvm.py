"""What the tables say about one secondary-storage VM: the input of its compiler, and how it is read."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy.orm import Session

from controlplane.convergence.intent.systemvm import SystemVmIntent, common, outward
from controlplane.core import Core
from controlplane.store.models import Appliance, Zone


@dataclass(frozen=True, kw_only=True)
class SsvmIntent(SystemVmIntent):
    """Everything one SSVM's document is made of, at one generation."""

    #: the zone's public resolvers, for the names in URLs
    resolvers: tuple[str, ...]


def load(session: Session, appliance_id: str, core: Core) -> SsvmIntent:
    """The intent of one SSVM from one snapshot of the tables. Raises NoResultFound for an unknown one."""
    row = session.get_one(Appliance, appliance_id)
    zone = session.get_one(Zone, row.zone_id)
    return SsvmIntent(
        **common(row, outward(session, appliance_id)),
        resolvers=tuple(address for address in (zone.dns1, zone.dns2) if address),
    )
