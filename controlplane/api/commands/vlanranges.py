"""Address ranges: public ones, and those of shared networks."""

from __future__ import annotations

from functools import partial

from sqlalchemy import select
from sqlalchemy.orm import Session

from controlplane.api import listing
from controlplane.api.call import Call
from controlplane.api.command import ROOT, ListParams, Params, Response, Success, command, param, shown
from controlplane.api.targets import wake_network
from controlplane.convergence.roles import desire_setting
from controlplane.errors import ParameterError
from controlplane.network import guestranges, ranges
from controlplane.store.models import Account, Network, PhysicalNetwork, Pod, VlanIpRange, Zone


class VlanIpRangeResponse(Response):
    id: str = shown("the ID of the VLAN IP range", ...)
    forvirtualnetwork: bool = shown("true for public addresses, false for those of a shared network", ...)
    networkid: str | None = shown("the shared network whose guests get addresses of it")
    podid: str | None = shown("the Pod ID of the VLAN IP range, in a basic zone")
    podname: str | None = shown("the Pod name of the VLAN IP range, in a basic zone")
    zoneid: str = shown("the Zone ID of the VLAN IP range", ...)
    vlan: str = shown("the ID or VID of the VLAN.", ...)
    gateway: str = shown("the gateway of the VLAN IP range", ...)
    netmask: str = shown("the netmask of the VLAN IP range", ...)
    cidr: str = shown("the cidr of the VLAN IP range", ...)
    startip: str = shown("the start ip of the VLAN IP range", ...)
    endip: str = shown("the end ip of the VLAN IP range", ...)
    physicalnetworkid: str = shown("the physical network this belongs to", ...)
    account: str | None = shown("the account of the VLAN IP range")
    domainid: str | None = shown("the domain ID of the VLAN IP range")
    domain: str | None = shown("the domain name of the VLAN IP range")


def _range(session: Session, row: VlanIpRange) -> VlanIpRangeResponse:
    account = session.get_one(Account, row.account_id) if row.account_id is not None else None
    pod = session.get(Pod, row.pod_id) if row.pod_id is not None else None
    return VlanIpRangeResponse(
        id=row.id,
        forvirtualnetwork=row.network_id is None,
        networkid=row.network_id,
        podid=row.pod_id,
        podname=pod.name if pod is not None else None,
        zoneid=row.zone_id,
        vlan=row.vlan,
        gateway=row.gateway,
        netmask=row.netmask,
        cidr=str(ranges.parse_subnet(row.gateway, row.netmask)),
        startip=row.start_ip,
        endip=row.end_ip,
        physicalnetworkid=row.physical_network_id,
        account=account.name if account is not None else None,
        domainid=account.domain_id if account is not None else None,
        domain=account.domain.name if account is not None else None,
    )


class ListVlanIpRanges(ListParams):
    id: str | None = param("the ID of the VLAN IP range", default=None, entity="VlanIpRange")
    zoneid: str | None = param("the Zone ID of the VLAN IP range", default=None, entity="Zone")
    physicalnetworkid: str | None = param("physical network id", default=None, entity="PhysicalNetwork")
    vlan: str | None = param("the ID or VID of the VLAN", default=None)
    account: str | None = param("the account to which the range is dedicated; needs domainid", default=None)
    domainid: str | None = param("the domain of that account", default=None, entity="Domain")
    networkid: str | None = param("ranges of this shared network", default=None, entity="Network")
    podid: str | None = param("ranges of this pod", default=None, entity="Pod")
    forvirtualnetwork: bool | None = param(
        "true for public ranges, the default; false for those of shared networks", default=None
    )


@command(
    "listVlanIpRanges",
    description="Lists all VLAN IP ranges.",
    params=ListVlanIpRanges,
    response=VlanIpRangeResponse,
    object_name="vlaniprange",
    roles=ROOT,
)
def list_ranges(call: Call, params: ListVlanIpRanges) -> tuple[int, list[VlanIpRangeResponse]]:
    statement = select(VlanIpRange)
    if params.id is not None:
        statement = statement.where(VlanIpRange.id == call.lookup(VlanIpRange, params.id).id)
    if params.networkid is not None:
        network = call.lookup(Network, params.networkid, "networkid")
        statement = statement.where(VlanIpRange.network_id == network.id)
    if params.podid is not None:
        statement = statement.where(VlanIpRange.pod_id == call.lookup(Pod, params.podid, "podid").id)
    public = params.forvirtualnetwork
    if public is None:
        # what was asked for by name is shown whatever it is
        public = None if params.id or params.networkid or params.podid else True
    if public is not None:
        statement = statement.where(VlanIpRange.network_id.is_(None) if public else VlanIpRange.network_id.is_not(None))
    if params.zoneid is not None:
        statement = statement.where(VlanIpRange.zone_id == call.lookup(Zone, params.zoneid, "zoneid").id)
    if params.physicalnetworkid is not None:
        physical = call.lookup(PhysicalNetwork, params.physicalnetworkid, "physicalnetworkid")
        statement = statement.where(VlanIpRange.physical_network_id == physical.id)
    if params.vlan is not None:
        statement = statement.where(VlanIpRange.vlan == ranges.parse_vlan(params.vlan))
    if params.account is not None:
        statement = statement.where(VlanIpRange.account_id == call.owner(params.account, params.domainid).id)
    columns = (VlanIpRange.vlan, VlanIpRange.start_ip, VlanIpRange.gateway)
    statement = listing.search(statement, params.keyword, *columns).order_by(VlanIpRange.created, VlanIpRange.id)
    return listing.fetch(call, statement, params, lambda rows: [_range(call.session, row) for row in rows])


class CreateVlanIpRange(Params):
    startip: str = param("the beginning IP address in the VLAN IP range")
    endip: str | None = param("the ending IP address in the VLAN IP range", default=None)
    gateway: str = param("the gateway of the VLAN IP range")
    netmask: str = param("the netmask of the VLAN IP range")
    vlan: str | None = param(
        "the ID or VID of the VLAN; untagged by default, for a shared network its own", default=None
    )
    zoneid: str | None = param("the Zone ID of the VLAN IP range", default=None, entity="Zone")
    physicalnetworkid: str | None = param("the physical network id", default=None, entity="PhysicalNetwork")
    forvirtualnetwork: bool = param("true for a public range, false for one of a shared network", default=True)
    networkid: str | None = param("the shared network", default=None, entity="Network")
    podid: str | None = param("the pod of a basic zone", default=None, entity="Pod")
    account: str | None = param("account that alone gets addresses of the range; needs domainid", default=None)
    domainid: str | None = param("domain of that account", default=None, entity="Domain")


@command(
    "createVlanIpRange",
    description="Creates a VLAN IP range.",
    params=CreateVlanIpRange,
    response=VlanIpRangeResponse,
    object_name="vlan",
    roles=ROOT,
    event="VLAN.IP.RANGE.CREATE",
)
def create_range(call: Call, params: CreateVlanIpRange) -> VlanIpRangeResponse:
    if not params.forvirtualnetwork or params.networkid is not None:
        return _create_guest_range(call, params)
    physical = _physical_for(call, params.zoneid, params.physicalnetworkid)
    dedicated = params.account is not None or params.domainid is not None
    row = VlanIpRange(
        zone_id=physical.zone_id,
        physical_network_id=physical.id,
        vlan=ranges.parse_vlan(params.vlan),
        gateway=params.gateway,
        netmask=params.netmask,
        start_ip=params.startip,
        end_ip=params.endip or params.startip,
        account_id=call.owner(params.account, params.domainid).id if dedicated else None,
    )
    ranges.check_new(call.session, row)
    call.session.add(row)
    call.session.flush()
    _tell_name_servers(call, row)
    call.event(f"Successfully created public range {row.start_ip}-{row.end_ip}", ("VlanIpRange", row.id))
    return _range(call.session, row)


def _tell_name_servers(call: Call, row: VlanIpRange) -> None:
    """Names of system VMs stand for addresses of public ranges."""
    for appliance_id in desire_setting(call.session, "consoleproxy.", row.zone_id):
        call.after_commit(partial(call.runtime.wake, appliance_id))


def _create_guest_range(call: Call, params: CreateVlanIpRange) -> VlanIpRangeResponse:
    network = _guest_network(call, params)
    pod = call.lookup(Pod, params.podid, "podid") if params.podid is not None else None
    if pod is not None and pod.zone_id != network.zone_id:
        raise ParameterError(f"podid: pod {pod.name} is in another zone than network {network.name}")
    if params.account is not None or params.domainid is not None:
        raise ParameterError("account: ranges of shared networks are for all who may use the network")
    vlan = ranges.UNTAGGED if network.vni is None else f"vlan://{network.vni}"
    if params.vlan is not None and ranges.parse_vlan(params.vlan) != vlan:
        raise ParameterError(f"vlan: network {network.name} is on {vlan}, and so are its ranges; leave it out")
    row = VlanIpRange(
        zone_id=network.zone_id,
        physical_network_id=network.physical_network_id,
        vlan=vlan,
        gateway=params.gateway,
        netmask=params.netmask,
        start_ip=params.startip,
        end_ip=params.endip or params.startip,
        network_id=network.id,
        pod_id=pod.id if pod is not None else None,
    )
    guestranges.add_range(call.session, network, row)
    call.event(
        f"Successfully created range {row.start_ip}-{row.end_ip} of network {network.name}", ("VlanIpRange", row.id)
    )
    wake_network(call, network.id, settle=True)
    return _range(call.session, row)


def _guest_network(call: Call, params: CreateVlanIpRange) -> Network:
    """The shared network that is to get a range: the one given, or that of a basic zone."""
    if params.networkid is not None:
        network = call.lookup(Network, params.networkid, "networkid")
        if network.state == "Destroy":
            raise ParameterError(f"network {network.name} is being deleted")
        if not guestranges.is_shared(network):
            raise ParameterError(f"networkid: network {network.name} is not shared; it has the addresses of its CIDR")
        return network
    if params.zoneid is None:
        raise ParameterError("give networkid, or zoneid of a basic zone")
    zone = call.lookup(Zone, params.zoneid, "zoneid")
    found = call.session.scalars(
        select(Network).where(Network.zone_id == zone.id, Network.removed.is_(None), Network.state != "Destroy")
    ).all()
    if zone.network_type != "Basic" or len(found) != 1:
        raise ParameterError("forvirtualnetwork=false: networkid must say whose range it is")
    return found[0]


def _physical_for(call: Call, zoneid: str | None, physicalnetworkid: str | None) -> PhysicalNetwork:
    """The physical network of a new range: the one given, or the only one of the zone."""
    if physicalnetworkid is not None:
        physical = call.lookup(PhysicalNetwork, physicalnetworkid, "physicalnetworkid")
        if zoneid is not None and call.lookup(Zone, zoneid, "zoneid").id != physical.zone_id:
            raise ParameterError("physicalnetworkid: that physical network is in another zone")
        return physical
    if zoneid is None:
        raise ParameterError("give zoneid, or physicalnetworkid")
    zone = call.lookup(Zone, zoneid, "zoneid")
    found = call.session.scalars(select(PhysicalNetwork).where(PhysicalNetwork.zone_id == zone.id)).all()
    if len(found) != 1:
        raise ParameterError(f"zone {zone.name} has {len(found)} physical networks; say which with physicalnetworkid")
    return found[0]


class DeleteVlanIpRange(Params):
    id: str = param("the id of the VLAN IP range", entity="VlanIpRange")


@command(
    "deleteVlanIpRange",
    description="Deletes a VLAN IP range.",
    params=DeleteVlanIpRange,
    roles=ROOT,
    event="VLAN.IP.RANGE.DELETE",
)
def delete_range(call: Call, params: DeleteVlanIpRange) -> Success:
    row = call.lookup(VlanIpRange, params.id)
    network = call.session.get(Network, row.network_id) if row.network_id is not None else None
    if network is not None:
        guestranges.remove_range(call.session, network, row)
        wake_network(call, network.id, settle=True)
    else:
        ranges.remove(call.session, row)
        _tell_name_servers(call, row)
    call.event(f"Successfully deleted range {row.start_ip}-{row.end_ip}", ("VlanIpRange", row.id))
    return Success()
