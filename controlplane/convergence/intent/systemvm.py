"""What the intents of all system VMs have in common."""

from __future__ import annotations

from sqlalchemy.orm import Session

from controlplane import systemvms
from controlplane.convergence.intent.rows import PublicAddress, public_segment
from controlplane.store.models import VlanIpRange


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
