"""Public addresses: taking, releasing, listing."""

from __future__ import annotations

from itertools import islice

from sqlalchemy import select
from sqlalchemy.orm import Session

from controlplane import jobs
from controlplane.api import listing, tagging
from controlplane.api.call import Call
from controlplane.api.command import Async, Params, Response, ScopedListParams, Success, command, param
from controlplane.api.tagging import TagEntry, remove_tags
from controlplane.api.views.addresses import IpAddressResponse, show_addresses, show_free
from controlplane.convergence.desired import desire_network
from controlplane.errors import ParameterError
from controlplane.network import addresses, addressing, allocation, limits, networks
from controlplane.store.models import AsyncJob, Network, PublicIp, VlanIpRange, Zone


class AssociateIpAddress(Params):
    networkid: str | None = param("network the address is for", default=None, entity="Network")
    zoneid: str | None = param(
        "zone, for an account that has one network in it; not needed with networkid", default=None, entity="Zone"
    )
    ipaddress: str | None = param("the address wanted, any free one unless given", default=None)
    account: str | None = param("owner of the address; needs domainid", default=None)
    domainid: str | None = param("domain of the owner", default=None, entity="Domain")


class AddressId(Params):
    id: str = param("id of the public address", entity="IPAddress")


class ListPublicIpAddresses(ScopedListParams):
    id: str | None = param("id of the address", default=None, entity="IPAddress")
    ipaddress: str | None = param("this address", default=None)
    zoneid: str | None = param("addresses of this zone", default=None, entity="Zone")
    associatednetworkid: str | None = param("addresses of this network", default=None, entity="Network")
    networkid: str | None = param("the same as associatednetworkid", default=None, entity="Network")
    physicalnetworkid: str | None = param("of this physical network", default=None, entity="PhysicalNetwork")
    vlanid: str | None = param("addresses of this public range", default=None, entity="VlanIpRange")
    vpcid: str | None = param("addresses of this VPC", default=None, entity="Vpc")
    allocatedonly: bool = param("false: free addresses too", default=True)
    issourcenat: bool | None = param("source NAT addresses, or all others", default=None)
    isstaticnat: bool | None = param("addresses with static NAT, or all others", default=None)
    forvirtualnetwork: bool | None = param("addresses for networks behind routers, which all are", default=None)
    forloadbalancing: bool | None = param("addresses used for load balancing", default=None)
    state: str | None = param("Free, Allocating, Allocated or Releasing", default=None)
    tags: list[TagEntry] | None = param("addresses with all of these tags", default=None)


@command(
    "associateIpAddress",
    description="Takes a public address for a network",
    params=AssociateIpAddress,
    response=IpAddressResponse,
    object_name="ipaddress",
    is_async=True,
    creates=True,
    event="NET.IPASSIGN",
)
def associate_ip_address(call: Call, params: AssociateIpAddress) -> Async:
    network = _network_for(call, params)
    owner = network.account
    wanted = addressing.parse_address("ipaddress", params.ipaddress) if params.ipaddress is not None else None
    call.check_limit(owner, limits.PUBLIC_IPS, limits.used(call.session, owner, limits.PUBLIC_IPS))
    address = addresses.associate(call.session, network, wanted)
    return Async(
        "IpAddress",
        address.id,
        f"assigning IP address {address.address} to network {network.name}",
        target=desire_network(call.session, network.id),
        completion="address.associate",
        arguments={"address_id": address.id},
    )


def _network_for(call: Call, params: AssociateIpAddress) -> Network:
    if params.networkid is not None:
        return call.lookup(Network, params.networkid, "networkid")
    if params.zoneid is None:
        raise ParameterError("networkid or zoneid must be given")
    zone = call.lookup(Zone, params.zoneid, "zoneid")
    owner = call.owner(params.account, params.domainid)
    owned = networks.of_account(call.session, owner, zone)
    if len(owned) != 1:
        raise ParameterError(
            f"account {owner.name} has {len(owned)} networks in zone {zone.name}; give networkid to say which"
        )
    return owned[0]


@jobs.completion("address.associate")
def _associated(session: Session, job: AsyncJob, *, address_id: str) -> Response:
    row = session.get(PublicIp, address_id)
    return show_addresses(session, [row])[0] if row is not None else Success()


@jobs.reversal("address.associate")
def _not_associated(session: Session, job: AsyncJob, *, address_id: str) -> None:
    row = session.get(PublicIp, address_id)
    if row is not None:
        addresses.revoke_rules(session, row)
        row.state, row.static_nat_nic_id = "Releasing", None
        addresses.finish_release(session, address_id)


@command(
    "disassociateIpAddress",
    description="Gives a public address back, with its rules and static NAT",
    params=AddressId,
    is_async=True,
    event="NET.IPRELEASE",
)
def disassociate_ip_address(call: Call, params: AddressId) -> Async:
    address = call.lookup(PublicIp, params.id)
    addresses.release(call.session, address)
    return Async(
        "IpAddress",
        address.id,
        f"releasing IP address {address.address}",
        target=desire_network(call.session, address.network_id) if address.network_id is not None else None,
        completion="address.released",
        arguments={"address_id": address.id},
    )


@jobs.completion("address.released")
def _released(session: Session, job: AsyncJob, *, address_id: str) -> Response:
    remove_tags(session, "PublicIpAddress", address_id)
    addresses.finish_release(session, address_id)
    return Success()


@command(
    "listPublicIpAddresses",
    description="Lists public addresses: those allocated, or with allocatedonly=false the free ones too",
    params=ListPublicIpAddresses,
    response=IpAddressResponse,
    object_name="publicipaddress",
)
def list_public_ip_addresses(call: Call, params: ListPublicIpAddresses) -> tuple[int, list[IpAddressResponse]]:
    # there is no load balancing, no VPC and no other kind of public address yet
    if params.forloadbalancing or params.vpcid is not None or params.forvirtualnetwork is False:
        return 0, []
    # addresses of system VMs are shown by listSystemVms
    statement = select(PublicIp).where(PublicIp.appliance_id.is_(None)).order_by(PublicIp.created, PublicIp.id)
    statement = listing.scope(call, statement, PublicIp.account_id, params, by_id=params.id is not None)
    for column, value in (
        (PublicIp.id, params.id),
        (PublicIp.address, params.ipaddress),
        (PublicIp.zone_id, params.zoneid),
        (PublicIp.network_id, params.associatednetworkid),
        (PublicIp.network_id, params.networkid),
        (PublicIp.vlan_ip_range_id, params.vlanid),
        (PublicIp.is_source_nat, params.issourcenat),
        (PublicIp.state, params.state.capitalize() if params.state is not None else None),
    ):
        if value is not None:
            statement = statement.where(column == value)
    if params.physicalnetworkid is not None:
        spans = select(VlanIpRange.id).where(VlanIpRange.physical_network_id == params.physicalnetworkid)
        statement = statement.where(PublicIp.vlan_ip_range_id.in_(spans))
    if params.isstaticnat is not None:
        static = PublicIp.static_nat_nic_id.is_not(None)
        statement = statement.where(static if params.isstaticnat else ~static)
    statement = tagging.with_tags(statement, "PublicIpAddress", PublicIp.id, params.tags)
    statement = listing.search(statement, params.keyword, PublicIp.address)
    if _allocated_only(params):
        return listing.fetch(call, statement, params, lambda rows: list(show_addresses(call.session, rows)))
    return _with_free(call, params, list(call.session.scalars(statement)))


def _allocated_only(params: ListPublicIpAddresses) -> bool:
    """Whether no free address can be among what is asked for."""
    if params.state is not None and params.state.lower() == "free":
        return False
    of_somebody = (params.id, params.associatednetworkid, params.networkid, params.tags, params.state)
    return params.allocatedonly or params.issourcenat is True or params.isstaticnat is True or any(of_somebody)


def _with_free(
    call: Call, params: ListPublicIpAddresses, allocated: list[PublicIp]
) -> tuple[int, list[IpAddressResponse]]:
    """The allocated addresses, then the free ones, of which only those on the page are made."""
    offset, limit = listing.page_of(call, params)
    end = None if limit is None else offset + limit
    answers: list[IpAddressResponse] = list(show_addresses(call.session, allocated[offset:end]))
    skip = max(0, offset - len(allocated))
    room = None if limit is None else limit - len(answers)
    total = len(allocated)
    for span in _spans(call, params):
        free = [address for address in _free(call, span) if params.keyword is None or params.keyword in address]
        if params.ipaddress is not None:
            free = [address for address in free if address == params.ipaddress]
        total += len(free)
        page = list(islice(free, skip, None if room is None else skip + room))
        skip = max(0, skip - len(free))
        room = None if room is None else room - len(page)
        zone = call.session.get_one(Zone, span.zone_id)
        answers += [show_free(zone, span, address) for address in page]
    return total, answers


def _spans(call: Call, params: ListPublicIpAddresses) -> list[VlanIpRange]:
    statement = (
        select(VlanIpRange).where(VlanIpRange.network_id.is_(None)).order_by(VlanIpRange.created, VlanIpRange.id)
    )
    for column, value in (
        (VlanIpRange.zone_id, params.zoneid),
        (VlanIpRange.id, params.vlanid),
        (VlanIpRange.physical_network_id, params.physicalnetworkid),
    ):
        if value is not None:
            statement = statement.where(column == value)
    spans = call.session.scalars(statement)
    return [span for span in spans if call.is_root or span.account_id in (None, call.account.id)]


def _free(call: Call, span: VlanIpRange) -> list[str]:
    first, last = addressing.range_bounds(span.start_ip, span.end_ip)
    return list(addressing.free_addresses(first, last, allocation.taken_public_addresses(call.session, span)))
