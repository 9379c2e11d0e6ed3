"""Capacity of zones (guide: chapter 11)."""

from __future__ import annotations

from ipaddress import IPv4Address

from sqlalchemy import func, select

from controlplane.api.call import Call
from controlplane.api.command import ROOT, Params, Response, command, param, shown
from controlplane.compute import hosts
from controlplane.compute.hosts import Amount
from controlplane.imagestores import stores
from controlplane.storage import pools
from controlplane.storage.settings import OVERPROVISIONING
from controlplane.store.models import Cluster, Host, Pod, PublicIp, StoragePool, VlanIpRange, Zone

#: numbers and names of the API
MEMORY, CPU, STORAGE, PROMISED, PUBLIC_IP, SECONDARY = 0, 1, 2, 3, 4, 6
NAMES = {
    MEMORY: "MEMORY",
    CPU: "CPU",
    STORAGE: "STORAGE",
    PROMISED: "STORAGE_ALLOCATED",
    PUBLIC_IP: "VIRTUAL_NETWORK_PUBLIC_IP",
    SECONDARY: "SECONDARY_STORAGE",
}


class CapacityResponse(Response):
    type: int = shown("the capacity type", ...)
    name: str = shown("the capacity name", ...)
    zoneid: str = shown("the Zone ID", ...)
    zonename: str = shown("the Zone name", ...)
    capacityallocated: int = shown("the capacity currently in allocated", ...)
    capacityused: int = shown("the capacity currently in use", ...)
    capacitytotal: int = shown("the total capacity available", ...)
    percentused: str = shown("the percentage of capacity currently in use", ...)


class ListCapacity(Params):
    zoneid: str | None = param("lists capacity by the Zone ID", default=None, entity="Zone")
    type: int | None = param(
        "lists capacity by type: 0 memory, 1 CPU, 2 storage used, 3 storage promised, 4 public IP addresses, "
        "6 secondary storage",
        default=None,
    )


@command(
    "listCapacity",
    description="Lists all the system wide capacities.",
    params=ListCapacity,
    response=CapacityResponse,
    object_name="capacity",
    roles=ROOT,
)
def list_capacity(call: Call, params: ListCapacity) -> tuple[int, list[CapacityResponse]]:
    statement = select(Zone).order_by(Zone.name)
    if params.zoneid is not None:
        statement = statement.where(Zone.id == call.lookup(Zone, params.zoneid, "zoneid").id)
    found = []
    for zone in call.session.scalars(statement):
        for kind, (used, total) in _of_zone(call, zone).items():
            if params.type in (None, kind):
                found.append(
                    CapacityResponse(
                        type=kind,
                        name=NAMES[kind],
                        zoneid=zone.id,
                        zonename=zone.name,
                        capacityallocated=used,
                        capacityused=used,
                        capacitytotal=total,
                        percentused=f"{100 * used / total:.2f}" if total else "0",
                    )
                )
    return len(found), found


def _of_zone(call: Call, zone: Zone) -> dict[int, tuple[int, int]]:
    session = call.session
    statement = select(Host).join(Cluster).join(Pod).where(Pod.zone_id == zone.id)
    there = list(session.scalars(statement))
    used = sum(hosts.promised(session, [host.id for host in there]).values(), Amount(0, 0))
    total = sum((hosts.total(session, call.configuration, host) for host in there), Amount(0, 0))
    public = select(VlanIpRange).where(VlanIpRange.zone_id == zone.id, VlanIpRange.network_id.is_(None))
    ranges = session.scalars(public)
    addresses = sum(int(IPv4Address(row.end_ip)) - int(IPv4Address(row.start_ip)) + 1 for row in ranges)
    taken = session.scalar(select(func.count()).select_from(PublicIp).where(PublicIp.zone_id == zone.id)) or 0
    kept = [
        (store.total - store.free, store.total)
        for store in stores.of_zone(session, zone.id)
        # object stores do not tell
        if store.total is not None and store.free is not None
    ]
    own = list(
        session.scalars(select(StoragePool).where(StoragePool.zone_id == zone.id, StoragePool.removed.is_(None)))
    )
    factor = float(call.configuration.get(session, OVERPROVISIONING, zone=zone.id))
    return {
        MEMORY: (used.memory, total.memory),
        CPU: (used.mhz, total.mhz),
        STORAGE: (sum(pool.used_bytes for pool in own), sum(pool.total_bytes for pool in own)),
        PROMISED: (
            sum(pools.promised(session, pool.id) for pool in own),
            int(sum(pool.total_bytes for pool in own) * factor),
        ),
        PUBLIC_IP: (taken, addresses),
        SECONDARY: (sum(each[0] for each in kept), sum(each[1] for each in kept)),
    }
