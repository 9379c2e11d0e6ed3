"""Moving guests to other hosts while they run."""

from __future__ import annotations

from sqlalchemy import select

from controlplane.api import guests, listing
from controlplane.api.call import Call
from controlplane.api.command import ROOT, Async, ListParams, Params, command, param, shown
from controlplane.api.commands.hosts import HostResponse, show_hosts
from controlplane.api.views.vms import VirtualMachineResponse
from controlplane.compute import hosts, vms
from controlplane.errors import ParameterError, UnsupportedError
from controlplane.store.models import Cluster, Host, Pod


class HostForMigrationResponse(HostResponse):
    suitableformigration: bool = shown("true if the host takes the VM now", ...)
    # as clients of CloudStack's read it
    requiresStorageMotion: bool = shown("true if the VM's storage would have to move too", False)  # noqa: N815


class FindHostsForMigration(ListParams):
    virtualmachineid: str = param("find hosts to which this VM can be migrated", entity="UserVm")


@command(
    "findHostsForMigration",
    description="Lists the other hosts of a running VM's zone, and which of them can take it.",
    params=FindHostsForMigration,
    response=HostForMigrationResponse,
    object_name="host",
    roles=ROOT,
)
def find_hosts_for_migration(call: Call, params: FindHostsForMigration) -> tuple[int, list[HostForMigrationResponse]]:
    vm = guests.find(call, params.virtualmachineid, "virtualmachineid")
    vms.need_state(vm, "Running", to="migrate")
    statement = select(Host).join(Cluster).join(Pod).where(Pod.zone_id == vm.zone_id, Host.id != vm.host_id)
    statement = listing.search(statement, params.keyword, Host.name).order_by(Host.created, Host.id)
    fit = {offer.host.id: not offer.reason for offer in hosts.offers(call.session, call.configuration, vm)}

    def show(rows: list[Host]) -> list[HostForMigrationResponse]:
        found = show_hosts(call.session, call.configuration, rows)
        return [HostForMigrationResponse(**dict(host), suitableformigration=fit[host.id]) for host in found]

    return listing.fetch(call, statement, params, show)


class MigrateVirtualMachine(Params):
    virtualmachineid: str = param("the ID of the virtual machine", entity="UserVm")
    hostid: str | None = param("the host to migrate the VM to", default=None, entity="Host")
    autoselect: bool = param("migrate it to the host that has most room, in place of hostid", default=False)
    storageid: str | None = param("primary storage to migrate a stopped VM to; hosts share theirs here", default=None)


@command(
    "migrateVirtualMachine",
    description="Moves a running VM to another host. It goes on running, and connections to it go on.",
    params=MigrateVirtualMachine,
    response=VirtualMachineResponse,
    object_name="virtualmachine",
    roles=ROOT,
    is_async=True,
    event="VM.MIGRATE",
)
def migrate_virtual_machine(call: Call, params: MigrateVirtualMachine) -> Async:
    vm = guests.find(call, params.virtualmachineid, "virtualmachineid")
    if params.storageid is not None:
        raise UnsupportedError("storageid: all hosts share one primary storage, so there is none to migrate to")
    if (params.hostid is None) != params.autoselect:
        raise ParameterError("give either hostid, see findHostsForMigration, or autoselect=true")
    vms.need_state(vm, "Running", to="migrate")
    host = call.lookup(Host, params.hostid, "hostid") if params.hostid is not None else None
    if host is not None and host.id == vm.host_id:
        raise ParameterError(f"hostid: VM {vm.name} runs on host {host.name} already")
    target = hosts.destination(call.session, call.configuration, vm, host.id if host is not None else None)
    return guests.flow(
        call,
        vm,
        f"migrating VM {vm.name} to host {target.name}",
        "migrate_vm",
        host_id=target.id,
        source_id=vm.host_id,
    )
