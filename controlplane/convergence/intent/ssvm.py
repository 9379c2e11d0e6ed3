"""What the tables say about one secondary-storage VM: the input of its compiler, and how it is read."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy.orm import Session

from controlplane.convergence.intent.rows import ApplianceNic, GuestNetwork, PublicAddress
from controlplane.convergence.intent.systemvm import outward
from controlplane.core import Core
from controlplane.store.models import Appliance, Zone


@dataclass(frozen=True)
class SsvmIntent:
    """Everything one SSVM's document is made of, at one generation."""

    appliance_id: str
    generation: int
    name: str
    control_address: str
    nics: tuple[ApplianceNic, ...]
    addresses: tuple[PublicAddress, ...]
    #: the zone's public resolvers, for the names in URLs
    resolvers: tuple[str, ...]
    #: a system VM serves no guest network
    networks: tuple[GuestNetwork, ...] = ()

    @property
    def segments(self) -> frozenset[str]:
        return frozenset(address.segment for address in self.addresses)


def load(session: Session, appliance_id: str, core: Core) -> SsvmIntent:
    """The intent of one SSVM from one snapshot of the tables. Raises NoResultFound for an unknown one."""
    row = session.get_one(Appliance, appliance_id)
    zone = session.get_one(Zone, row.zone_id)
    return SsvmIntent(
        appliance_id=appliance_id,
        generation=row.desired_generation,
        name=row.name,
        control_address=row.control_address,
        nics=tuple(ApplianceNic(**nic) for nic in row.nics),
        addresses=(outward(session, appliance_id),),
        resolvers=tuple(address for address in (zone.dns1, zone.dns2) if address),
    )
