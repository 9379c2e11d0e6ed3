"""Creating shared networks: their place on the wire, and whom they are for (guide: chapter 9.2.2)."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from controlplane.errors import ParameterError, RuleConflictError
from controlplane.network import access, dnsdomains, guestranges, ranges, segments
from controlplane.network.networks import Subnet, need_usable, physical_network_of
from controlplane.store.models import (
    Account,
    Domain,
    Network,
    NetworkOffering,
    PhysicalNetwork,
    VlanIpRange,
    Zone,
)


@dataclass(frozen=True)
class Audience:
    """Whom a shared network is for: an account, or the accounts of a domain (ROOT with those below it: everyone)."""

    account: Account
    domain: Domain | None = None
    subdomains: bool = False


def create(
    session: Session,
    *,
    name: str,
    display_text: str,
    zone: Zone,
    offering: NetworkOffering,
    audience: Audience,
    subnet: Subnet,
    vlan: str | None,
    network_domain: str | None,
    suffix: str,
    mtu: int | None = None,
    physical_network: PhysicalNetwork | None = None,
) -> Network:
    """A shared network in state Allocated with its first address range; a basic zone's gets its ranges later.

    Raises ParameterError for what does not fit, RuleConflictError when VLAN or addresses are in use.
    """
    need_usable(offering, guestranges.SHARED)
    if "SecurityGroup" in offering.services and not zone.security_groups:
        raise ParameterError(
            f"networkofferingid: zone {zone.name} was created without security groups, which {offering.name} has; "
            "choose an offering without, or another zone"
        )
    basic = zone.network_type == "Basic"
    physical = physical_network_of(session, zone, physical_network)
    if basic and session.scalar(select(Network.id).where(Network.zone_id == zone.id, Network.removed.is_(None))):
        raise ParameterError(f"zone {zone.name} is basic and has its one network already")
    wanted = check_vlan(session, physical, offering, vlan, basic=basic)
    network = Network(
        name=name,
        display_text=display_text,
        zone_id=zone.id,
        account_id=audience.account.id,
        network_offering_id=offering.id,
        physical_network_id=physical.id,
        cidr="",
        gateway="",
        vni=tag_of(wanted),
        mtu=mtu,
        own_domain=network_domain is not None,
        network_domain="",
        acl_type=access.ACCOUNT if audience.domain is None else access.DOMAIN,
        domain_id=audience.domain.id if audience.domain is not None else None,
        subdomain_access=audience.subdomains,
    )
    network.network_domain = network_domain or dnsdomains.inherited(
        session, account=audience.account, domain=audience.domain, zone=zone, suffix=suffix
    )
    session.add(network)
    session.flush()
    if subnet.gateway and subnet.netmask and subnet.start:
        guestranges.add_range(
            session,
            network,
            VlanIpRange(
                zone_id=zone.id,
                physical_network_id=physical.id,
                vlan=wanted,
                gateway=subnet.gateway,
                netmask=subnet.netmask,
                start_ip=subnet.start,
                end_ip=subnet.end or subnet.start,
                network_id=network.id,
            ),
        )
    elif not basic or subnet != Subnet():
        raise ParameterError("a shared network needs gateway, netmask and startip of its first address range")
    return network


def check_vlan(
    session: Session, physical: PhysicalNetwork, offering: NetworkOffering, vlan: str | None, *, basic: bool
) -> str:
    """The ``vlan://`` of a new shared network.

    Raises ParameterError when it is missing or must not be given, RuleConflictError when something else of the
    physical network has it.
    """
    if vlan is None and offering.specify_vlan and not basic:
        raise ParameterError(f"vlan: network offering {offering.name} needs it: a VLAN id, or untagged")
    if vlan is not None and not offering.specify_vlan:
        raise ParameterError(f"vlan: network offering {offering.name} takes none (specifyvlan)")
    wanted = ranges.parse_vlan(vlan)
    # isolated networks' numbers are VLANs only where these isolate them
    isolating = segments.isolation(physical) == "vlan"
    if isolating and physical.vlan and not basic and _within(wanted, physical.vlan):
        raise ParameterError(f"vlan: {vlan} is among {physical.vlan}, which {physical.name} gives isolated networks")
    used = session.execute(
        select(VlanIpRange.start_ip, VlanIpRange.network_id).where(
            VlanIpRange.physical_network_id == physical.id, VlanIpRange.vlan == wanted
        )
    ).first()
    tag = tag_of(wanted)
    shared = NetworkOffering.guest_ip_type == guestranges.SHARED
    other = session.scalar(
        select(Network.name)
        .join(NetworkOffering, NetworkOffering.id == Network.network_offering_id)
        .where(Network.physical_network_id == physical.id, Network.removed.is_(None))
        .where((Network.vni == tag) & (shared | isolating) if tag is not None else Network.vni.is_(None) & shared)
    )
    if used is not None or other is not None:
        by = f"network {other}" if other is not None else "public addresses"
        raise RuleConflictError(f"vlan: {wanted} of physical network {physical.name} is in use by {by}")
    return wanted


def tag_of(vlan: str) -> int | None:
    """The number of ``vlan://<tag>``; None when it is untagged."""
    text = vlan.removeprefix("vlan://")
    return int(text) if text.isdigit() else None


def _within(vlan: str, reserved: str) -> bool:
    tag = tag_of(vlan)
    if tag is None:
        return False
    for part in reserved.split(","):
        first, _, last = part.strip().partition("-")
        if first.isdigit() and int(first) <= tag <= int(last or first):
            return True
    return False
