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

    id: str = shown("public IP address id", ...)
    ipaddress: str = shown("public IP address", ...)
    allocated: datetime | None = shown("date the public IP address was acquired")
    zoneid: str = shown("the ID of the zone the public IP address belongs to", ...)
    zonename: str = shown("the name of the zone the public IP address belongs to", ...)
    issourcenat: bool = shown("true if the IP address is a source nat address, false otherwise", False)
    isstaticnat: bool = shown("true if this ip is for static nat, false otherwise", False)
    issystem: bool = shown("true if this ip is system ip (was allocated as a part of deployVm or createLbRule)", False)
    isportable: bool = shown("is public IP portable across the zones", False)
    forvirtualnetwork: bool = shown("the virtual network for the IP address", True)
    fordisplay: bool = shown("is public ip for display to the regular user", True)
    hasrules: bool = shown("whether the ip address has Firewall/PortForwarding rules defined", False)
    state: str = shown("State of the ip address. Can be: Allocating, Allocated, Releasing and Free", ...)
    associatednetworkid: str | None = shown("the ID of the Network associated with the IP address")
    associatednetworkname: str | None = shown("the name of the Network associated with the IP address")
    physicalnetworkid: str | None = shown("the physical network this belongs to")
    vlanid: str | None = shown("the ID of the VLAN associated with the IP address")
    vlanname: str | None = shown("the VLAN associated with the IP address")
    virtualmachineid: str | None = shown("virtual machine id the ip address is assigned to")
    virtualmachinename: str | None = shown("virtual machine name the ip address is assigned to")
    virtualmachinedisplayname: str | None = shown("virtual machine display name the ip address is assigned to")
    virtualmachinetype: str | None = shown("virtual machine type the ip address is assigned to")
    vmipaddress: str | None = shown("virtual machine (dnat) ip address (not null only for static nat Ip)")
    tags: list[TagResponse] = shown("the list of resource tags associated with ip address", [])


def show_addresses(session: Session, rows: Sequence[PublicIp]) -> list[IpAddressResponse]:
    """Allocated addresses."""
    ids = [row.id for row in rows]
    wanted = {row.static_nat_nic_id for row in rows if row.static_nat_nic_id}
    nics = {nic.id: nic for nic in session.scalars(select(Nic).where(Nic.id.in_(wanted)).options(joinedload(Nic.vm)))}
    ruled = {
        address
        for model in (FirewallRule, PortForwardingRule)
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
            answer.vmipaddress = nic.address
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
