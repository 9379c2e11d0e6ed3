"""Public addresses as the API shows them."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session, joinedload

from controlplane.api.command import shown
from controlplane.api.listing import OwnedResponse, owned_by
from controlplane.api.tagging import TagResponse, tags_of
from controlplane.store.models import (
    Account,
    FirewallRule,
    LoadBalancer,
    Network,
    Nic,
    PortForwardingRule,
    PublicIp,
    VlanIpRange,
    Zone,
)

#: ids of free addresses, which have no row, are made from the zone and the address (RFC 9562 section 5.5)
_FREE = uuid.UUID("5f3b1f6e-5d1b-4b43-9d4f-0a4f6c0d8f55")


class IpAddressResponse(OwnedResponse):
    """A public address."""

    id: str = shown("id of the address", ...)
    ipaddress: str = shown("the address", ...)
    allocated: datetime | None = shown("when it was taken")
    zoneid: str = shown("id of its zone", ...)
    zonename: str = shown("name of its zone", ...)
    issourcenat: bool = shown("guests of its network leave by it", False)
    isstaticnat: bool = shown("it is one VM's by static NAT", False)
    issystem: bool = shown("the system took it by itself", False)
    isportable: bool = shown("it can move between zones", False)
    forvirtualnetwork: bool = shown("it is for networks behind routers", True)
    fordisplay: bool = shown("it is shown to its owner", True)
    hasrules: bool = shown("it has rules", False)
    state: str = shown("Free, Allocating, Allocated or Releasing", ...)
    associatednetworkid: str | None = shown("id of the network it is for")
    associatednetworkname: str | None = shown("name of the network it is for")
    physicalnetworkid: str | None = shown("id of its physical network")
    vlanid: str | None = shown("id of the public range it is from")
    vlanname: str | None = shown("VLAN of that range")
    virtualmachineid: str | None = shown("id of the VM that has it by static NAT")
    virtualmachinename: str | None = shown("host name of that VM")
    virtualmachinedisplayname: str | None = shown("display name of that VM")
    virtualmachinetype: str | None = shown("kind of that VM")
    vmipaddress: str | None = shown("guest address of that VM")
    tags: list[TagResponse] = shown("its tags", [])


def show_addresses(session: Session, rows: Sequence[PublicIp]) -> list[IpAddressResponse]:
    """Allocated addresses."""
    ids = [row.id for row in rows]
    wanted = {row.static_nat_nic_id for row in rows if row.static_nat_nic_id}
    nics = {nic.id: nic for nic in session.scalars(select(Nic).where(Nic.id.in_(wanted)).options(joinedload(Nic.vm)))}
    ruled = {
        address
        for model in (FirewallRule, PortForwardingRule, LoadBalancer)
        for address in session.scalars(select(model.public_ip_id).where(model.public_ip_id.in_(ids)).distinct())
    }
    tags = tags_of(session, "PublicIpAddress", ids)
    answers = []
    for row in rows:
        network = session.get(Network, row.network_id) if row.network_id else None
        span = session.get_one(VlanIpRange, row.vlan_ip_range_id)
        answer = IpAddressResponse(
            **owned_by(session.get_one(Account, row.account_id)),
            id=row.id,
            ipaddress=row.address,
            allocated=row.created,
            zoneid=row.zone_id,
            zonename=session.get_one(Zone, row.zone_id).name,
            issourcenat=row.is_source_nat,
            isstaticnat=row.static_nat_nic_id is not None,
            issystem=row.is_system,
            hasrules=row.id in ruled,
            state=row.state,
            associatednetworkid=row.network_id,
            associatednetworkname=network.name if network else None,
            physicalnetworkid=span.physical_network_id,
            vlanid=span.id,
            vlanname=span.vlan,
            tags=tags.get(row.id, []),
        )
        nic = nics.get(row.static_nat_nic_id or "")
        if nic is not None:
            answer.virtualmachineid, answer.virtualmachinename = nic.vm.id, nic.vm.name
            answer.virtualmachinedisplayname, answer.virtualmachinetype = nic.vm.display_name, "User"
            answer.vmipaddress = row.static_nat_address or nic.address
        answers.append(answer)
    return answers


def show_free(zone: Zone, span: VlanIpRange, address: str) -> IpAddressResponse:
    """An address of a range that nobody has. Its id is always the same, but names no row."""
    return IpAddressResponse(
        id=str(uuid.uuid5(_FREE, f"{zone.id}/{address}")),
        ipaddress=address,
        zoneid=zone.id,
        zonename=zone.name,
        state="Free",
        physicalnetworkid=span.physical_network_id,
        vlanid=span.id,
        vlanname=span.vlan,
    )
