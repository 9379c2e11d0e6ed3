"""Guest networks: creating, changing and deleting them (guide: chapters 9.2, 15.6, 15.20, 18.5)."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import delete, exists, func, or_, select, update
from sqlalchemy.orm import Session

from controlplane.errors import InUseError, ParameterError
from controlplane.network import addressing, dnsdomains, tags, vpn
from controlplane.store.models import (
    Account,
    FirewallRule,
    LoadBalancer,
    Network,
    NetworkOffering,
    NetworkPermission,
    Nic,
    PhysicalNetwork,
    PortForwardingRule,
    PublicIp,
    RemoteAccessVpn,
    RouterAddress,
    VlanIpRange,
    Vm,
    VpnGateway,
    Zone,
    now,
)

#: states of VMs that need their networks
ACTIVE = ("Starting", "Running", "Stopping")


@dataclass(frozen=True)
class Subnet:
    """The addresses of a new network as a client gives them; all absent for the zone's default."""

    gateway: str | None = None
    netmask: str | None = None
    start: str | None = None
    end: str | None = None


def create(
    session: Session,
    *,
    name: str,
    display_text: str,
    zone: Zone,
    offering: NetworkOffering,
    account: Account,
    subnet: Subnet,
    network_domain: str | None,
    default_suffix: str,
    mtu: int | None = None,
    physical_network: PhysicalNetwork | None = None,
) -> Network:
    """An isolated network in state Allocated: a row only, until its first guest starts.

    ``default_suffix`` is the setting ``guest.domain.suffix``. Networks may have the same CIDR. Raises ParameterError
    for what does not fit, among it an offering that is not enabled or not for isolated networks.
    """
    need_usable(offering, "Isolated")
    if zone.network_type != "Advanced":
        raise ParameterError(f"zone {zone.name} has basic networking; guest networks need an advanced zone")
    cidr, gateway = addressing.guest_subnet(subnet.gateway, subnet.netmask, zone.guest_cidr)
    start, end = addressing.address_range(cidr, subnet.start, subnet.end)
    if network_domain:
        addressing.check_domain("networkdomain", network_domain)
    network = Network(
        name=name,
        display_text=display_text,
        zone_id=zone.id,
        account_id=account.id,
        network_offering_id=offering.id,
        physical_network_id=physical_network_of(session, zone, physical_network).id,
        cidr=str(cidr),
        gateway=str(gateway),
        start_ip=start,
        end_ip=end,
        own_domain=network_domain is not None,
        network_domain=network_domain
        or dnsdomains.inherited(session, account=account, domain=None, zone=zone, suffix=default_suffix),
        mtu=mtu,
    )
    session.add(network)
    session.flush()
    return network


def need_usable(offering: NetworkOffering, kind: str) -> None:
    """ParameterError unless guest networks of this kind, Isolated or Shared, can be made of the offering."""
    if offering.state != "Enabled":
        raise ParameterError(f"network offering {offering.name} is {offering.state.lower()}; enable it or use another")
    if offering.guest_ip_type != kind or offering.for_vpc or offering.traffic_type != "Guest":
        raise ParameterError(f"network offering {offering.name} is not for {kind.lower()} guest networks")


def physical_network_of(session: Session, zone: Zone, wanted: PhysicalNetwork | None) -> PhysicalNetwork:
    """The physical network of a new network: ``wanted``, or the zone's first enabled one. ParameterError."""
    if wanted is not None:
        if wanted.zone_id != zone.id:
            raise ParameterError(f"physicalnetworkid: {wanted.name} is not in zone {zone.name}")
        return wanted
    statement = (
        select(PhysicalNetwork)
        .where(PhysicalNetwork.zone_id == zone.id, PhysicalNetwork.state == "Enabled")
        .order_by(PhysicalNetwork.created)
    )
    found = session.execute(statement).scalars().first()
    if found is None:
        raise ParameterError(f"zone {zone.name} has no enabled physical network; create one first")
    return found


def of_account(session: Session, account: Account, zone: Zone) -> list[Network]:
    """An account's own networks in a zone, oldest first."""
    statement = (
        select(Network)
        .where(Network.account_id == account.id, Network.zone_id == zone.id, Network.removed.is_(None))
        .where(Network.state != "Destroy")
        .order_by(Network.created)
    )
    return list(session.execute(statement).scalars())


def check_offering_change(session: Session, network: Network, offering: NetworkOffering) -> None:
    """ParameterError when the network cannot move to ``offering``, e.g. because its rules use a service it lacks."""
    if offering.state != "Enabled":
        raise ParameterError(f"network offering {offering.name} is {offering.state.lower()}")
    old = network.offering
    if (offering.guest_ip_type, offering.traffic_type, offering.for_vpc) != (
        old.guest_ip_type,
        old.traffic_type,
        old.for_vpc,
    ):
        raise ParameterError(f"network offering {offering.name} is for another kind of network than {old.name}")
    if (offering.tags or "") != (old.tags or ""):
        raise ParameterError(f"network offerings {offering.name} and {old.name} have different tags")
    used = {
        "PortForwarding": select(PortForwardingRule.id).where(PortForwardingRule.network_id == network.id),
        "Lb": select(LoadBalancer.id).where(LoadBalancer.network_id == network.id),
        "Firewall": select(FirewallRule.id).where(FirewallRule.network_id == network.id),
        "StaticNat": select(PublicIp.id).where(
            PublicIp.network_id == network.id, PublicIp.static_nat_nic_id.is_not(None)
        ),
        "SourceNat": select(PublicIp.id).where(PublicIp.network_id == network.id, PublicIp.is_source_nat),
        "Vpn": select(Network.id).where(
            Network.id == network.id,
            or_(
                exists().where(VpnGateway.network_id == network.id),
                exists().where(RemoteAccessVpn.network_id == network.id),
            ),
        ),
    }
    for service, statement in used.items():
        if service not in offering.services and session.execute(statement.limit(1)).first() is not None:
            raise ParameterError(f"network offering {offering.name} lacks {service}, which network {network.name} uses")


def active_guests(session: Session, network_id: str) -> int:
    """How many guests of a network run, or are on the way to or from it."""
    statement = (
        select(func.count())
        .select_from(Nic)
        .join(Vm, Vm.id == Nic.vm_id)
        .where(Nic.network_id == network_id, Vm.removed.is_(None), Vm.state.in_(ACTIVE))
    )
    return session.execute(statement).scalar_one()


def begin_delete(session: Session, network: Network) -> None:
    """Mark a network as going; no guest and no rule can be added from here on. ``finish_delete`` ends it.

    Raises InUseError while a VM, even a destroyed one that can be recovered, has a NIC on it.
    """
    session.refresh(network, with_for_update=True)
    statement = select(Vm.name, Vm.state).join(Nic, Nic.vm_id == Vm.id).where(Nic.network_id == network.id).limit(1)
    guest = session.execute(statement).first()
    if guest is not None:
        raise InUseError(
            f"Can't delete network {network.name}, not all user vms are expunged: VM {guest.name} is {guest.state}; "
            "destroy it with expunge=true"
        )
    network.state = "Destroy"
    session.flush()


def finish_delete(session: Session, network_id: str) -> None:
    """Free everything a deleted network had: rules, public addresses, tags. Doing so twice does nothing."""
    network = session.get(Network, network_id)
    if network is None or network.removed is not None:
        return
    tags.forget(session, "Network", select(Network.id).where(Network.id == network_id))
    tags.forget(session, "PublicIpAddress", select(PublicIp.id).where(PublicIp.network_id == network_id))
    for model in (FirewallRule, PortForwardingRule, LoadBalancer):
        tags.forget(session, model.__name__, select(model.id).where(model.network_id == network_id))
        session.execute(delete(model).where(model.network_id == network_id))
    vpn.forget_network(session, network_id)
    # in this order: the router's addresses refer to the ranges
    for owned in (PublicIp, NetworkPermission, RouterAddress, VlanIpRange):
        session.execute(delete(owned).where(owned.network_id == network_id))
    network.state, network.removed = "Destroy", now()
    session.flush()


def mark_idle(session: Session, network_ids: list[str]) -> None:
    """Note the time for networks that have lost their last active guest, so that the collector can find them."""
    for network_id in network_ids:
        idle = active_guests(session, network_id) == 0
        session.execute(
            update(Network)
            .where(Network.id == network_id, Network.idle_since.is_(None) if idle else Network.idle_since.is_not(None))
            .values(idle_since=now() if idle else None)
        )
