"""Traffic over time, for charts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import select

from controlplane.api import listing
from controlplane.api.call import Call
from controlplane.api.command import ListParams, Response, command, param, shown
from controlplane.errors import ParameterError
from controlplane.store.models import (
    Entity,
    Network,
    PublicIp,
    RemoteAccessVpn,
    TrafficSample,
    Vm,
    VpnConnection,
    now,
)
from controlplane.usage import traffic

#: hours that are shown when nobody says since when
_RECENT = 12
#: parameters that name what is counted by itself
_SUBJECTS: Mapping[str, type[Entity]] = {
    "ipaddressid": PublicIp,
    "vpnconnectionid": VpnConnection,
    "remoteaccessvpnid": RemoteAccessVpn,
}
#: kind of a sample -> what clients know its subject as
_KINDS = {"public": "PublicIpAddress", "guest": "Nic", "vpn": "VpnConnection"}


class TrafficResponse(Response):
    start: datetime = shown("when this stretch of time began", ...)
    end: datetime = shown("when the counter was read", ...)
    bytesreceived: int = shown("bytes received in that time", ...)
    bytessent: int = shown("bytes sent in that time", ...)
    resourcetype: str = shown("Nic, PublicIpAddress, VpnConnection or RemoteAccessVpn", ...)
    resourceid: str = shown("id of the NIC, public address or VPN", ...)
    virtualmachineid: str | None = shown("the VM of the NIC")
    networkid: str | None = shown("the network it is on")


class ListTrafficHistory(ListParams):
    virtualmachineid: str | None = param("traffic of the NICs of this VM", default=None, entity="UserVm")
    ipaddressid: str | None = param("traffic of this public address", default=None, entity="PublicIpAddress")
    vpnconnectionid: str | None = param(
        "traffic through this site-to-site VPN connection", default=None, entity="Site2SiteVpnConnection"
    )
    remoteaccessvpnid: str | None = param(
        "traffic of the clients of this remote access VPN", default=None, entity="RemoteAccessVpn"
    )
    networkid: str | None = param("traffic of the public addresses of this network", default=None, entity="Network")
    startdate: datetime | None = param("from then on; the last 12 hours unless given", default=None)
    enddate: datetime | None = param("until then; now unless given", default=None)


@command(
    "listTrafficHistory",
    description="Lists bytes that NICs, public addresses or VPNs sent and received between readings, oldest first",
    params=ListTrafficHistory,
    response=TrafficResponse,
    object_name="traffic",
)
def list_traffic_history(call: Call, params: ListTrafficHistory) -> tuple[int, list[TrafficResponse]]:
    subjects = {name: (model, id) for name, model in _SUBJECTS.items() if (id := getattr(params, name)) is not None}
    if len(subjects) + (params.virtualmachineid is not None) + (params.networkid is not None) != 1:
        raise ParameterError(f"give one of virtualmachineid, networkid, {', '.join(_SUBJECTS)}")
    if params.virtualmachineid is not None:
        where: Any = TrafficSample.vm_id == call.lookup(Vm, params.virtualmachineid, "virtualmachineid").id
    elif subjects:
        [(name, (model, id))] = subjects.items()
        where = TrafficSample.subject_id == call.lookup(model, id, name).id
    else:
        network = call.lookup(Network, params.networkid or "", "networkid")
        where = (TrafficSample.network_id == network.id) & (TrafficSample.kind == "public")
    samples = traffic.history(call.session, (where,), *_stretch(params.startdate, params.enddate))
    kinds = _KINDS | ({"vpn": "RemoteAccessVpn"} if params.remoteaccessvpnid is not None else {})
    return listing.cut(call, [_sample(sample, kinds[sample.kind]) for sample in samples], params)


def _stretch(start: datetime | None, end: datetime | None) -> tuple[datetime, datetime]:
    until = end or now()
    return start or until - timedelta(hours=_RECENT), until


def _sample(sample: TrafficSample, resource: str) -> TrafficResponse:
    return TrafficResponse(
        start=sample.start,
        end=sample.end,
        bytesreceived=sample.received,
        bytessent=sample.sent,
        resourcetype=resource,
        resourceid=sample.subject_id,
        virtualmachineid=sample.vm_id,
        networkid=sample.network_id,
    )


class VmStatsResponse(Response):
    timestamp: datetime = shown("the time when the VM stats were collected", ...)
    networkread: int = shown("network traffic in bytes received", ...)
    networkkbsread: int = shown("the incoming network traffic on the VM in KiB", ...)
    networkwrite: int = shown("network traffic in bytes sent", ...)
    networkkbswrite: int = shown("the outgoing network traffic on the host in KiB", ...)


class VmUsageHistoryResponse(Response):
    id: str = shown("the ID of the virtual machine", ...)
    name: str = shown("the name of the virtual machine", ...)
    displayname: str = shown("user generated name", ...)
    stats: list[VmStatsResponse] = shown("the list of VM stats", ...)


class ListVmsUsageHistory(ListParams):
    id: str | None = param("the ID of the virtual machine", default=None, entity="UserVm")
    ids: list[str] | None = param("the IDs of the virtual machines, mutually exclusive with id", default=None)
    name: str | None = param("name of the virtual machine, or a part of it", default=None)
    startdate: datetime | None = param("start date to filter VM stats; the last 12 hours unless given", default=None)
    enddate: datetime | None = param("end date to filter VM stats; now unless given", default=None)


@command(
    "listVirtualMachinesUsageHistory",
    description="Lists VM stats: the network traffic of each VM, all of its NICs together, between readings",
    params=ListVmsUsageHistory,
    response=VmUsageHistoryResponse,
    object_name="virtualmachine",
)
def list_vms_usage_history(call: Call, params: ListVmsUsageHistory) -> tuple[int, list[VmUsageHistoryResponse]]:
    if params.id is not None and params.ids:
        raise ParameterError("give id or ids, not both")
    ids = [params.id] if params.id is not None else params.ids or []
    if ids:
        vms = [call.lookup(Vm, one, "ids" if params.ids else "id") for one in ids]
    else:
        statement = select(Vm).where(Vm.removed.is_(None), Vm.account_id == call.account.id).order_by(Vm.created, Vm.id)
        vms = list(call.session.scalars(listing.search(statement, params.name, Vm.name)))
    vms = [vm for vm in vms if params.name is None or params.name.lower() in vm.name.lower()]
    total, page = listing.cut(call, vms, params)
    stretch = _stretch(params.startdate, params.enddate)
    return total, [_history(call, vm, *stretch) for vm in page]


def _history(call: Call, vm: Vm, start: datetime, end: datetime) -> VmUsageHistoryResponse:
    # NICs on several networks are read at different times, each router's at one
    found: dict[datetime, list[int]] = defaultdict(lambda: [0, 0])
    for sample in traffic.history(call.session, (TrafficSample.vm_id == vm.id,), start, end):
        found[sample.end][0] += sample.received
        found[sample.end][1] += sample.sent
    return VmUsageHistoryResponse(
        id=vm.id,
        name=vm.name,
        displayname=vm.display_name,
        stats=[
            VmStatsResponse(
                timestamp=moment,
                networkread=received,
                networkkbsread=received // 1024,
                networkwrite=sent,
                networkkbswrite=sent // 1024,
            )
            for moment, (received, sent) in sorted(found.items())
        ],
    )
