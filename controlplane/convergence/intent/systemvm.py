"""What the intents of all system VMs have in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from controlplane.convergence.intent.rows import ApplianceNic, GuestNetwork, PublicAddress, public_segment
from controlplane.store.models import Appliance, VlanIpRange
from controlplane.systemvms import rows as systemvms


@dataclass(frozen=True, kw_only=True)
class SystemVmIntent:
    """What every system VM's document is made of, at one generation."""

    appliance_id: str
    generation: int
    name: str
    control_address: str
    nics: tuple[ApplianceNic, ...]
    addresses: tuple[PublicAddress, ...]
    #: a system VM serves no guest network
    networks: tuple[GuestNetwork, ...] = ()

    @property
    def segments(self) -> frozenset[str]:
        return frozenset(address.segment for address in self.addresses)


def common(row: Appliance, public: PublicAddress) -> dict[str, Any]:
    """The fields of ``SystemVmIntent`` for a system VM at a public address."""
    return {
        "appliance_id": row.id,
        "generation": row.desired_generation,
        "name": row.name,
        "control_address": row.control_address,
        "nics": tuple(ApplianceNic(**nic) for nic in row.nics),
        "addresses": (public,),
    }


def outward(session: Session, appliance_id: str) -> PublicAddress:
    """The public address of a system VM. Raises CapacityError when it has none."""
    public = systemvms.public_address(session, appliance_id)
    span = session.get_one(VlanIpRange, public.vlan_ip_range_id)
    return PublicAddress(
        id=public.id,
        network_id="",
        address=public.address,
        source_nat=True,
        static_nat_nic_id=None,
        segment=public_segment(span.physical_network_id, span.vlan),
        netmask=span.netmask,
        gateway=span.gateway,
    )
