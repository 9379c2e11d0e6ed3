"""Moving a guest to another host while it runs."""

from __future__ import annotations

from controlplane.compute import hosts
from controlplane.errors import ApiError
from controlplane.hypervisors.base import HypervisorError
from controlplane.network import segments
from controlplane.store.models import Host, Vm
from controlplane.workflows.flow import Flow


def migrate_vm(flow: Flow, vm_id: str, host_id: str, source_id: str) -> None:
    """Workflow: move a running VM from host ``source_id`` to ``host_id``; where that fails it runs where it was."""
    flow.step("move", _move, vm_id, host_id, source_id)


def _move(flow: Flow, vm_id: str, host_id: str, source_id: str) -> None:
    # in turns with what starts and stops it
    with flow.locks.of(vm_id):
        with flow.core.database.transaction() as session:
            vm = session.get(Vm, vm_id)
            if vm is None or vm.state != "Running" or vm.host_id not in (source_id, host_id):
                raise ApiError("the VM was stopped or moved meanwhile; look at it and try again")
            name, wanted = vm.name, [segments.of_guests(session, nic.network) for nic in vm.nics]
            # on the new host: a crash came between the move and the end of the step
            if vm.host_id == source_id:
                vm.host_id = hosts.destination(session, flow.core.configuration, vm, host_id).id
            target = hosts.url_of(session, host_id)
        try:
            for segment in wanted:
                flow.core.hypervisor.ensure_segment(segment)
            flow.core.hypervisor.migrate(vm_id, target)
        except HypervisorError as error:
            with flow.core.database.transaction() as session:
                session.get_one(Vm, vm_id).host_id = source_id
                source = session.get(Host, source_id)
                where = f"host {source.name}" if source is not None else "its host"
            raise ApiError(f"VM {name} was not moved and goes on on {where}: {error}") from error
