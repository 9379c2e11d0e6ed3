"""Virtual machines and their NICs (guide: chapter 10)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from sqlalchemy import select
from sqlalchemy.orm import Session

from controlplane import events, routers
from controlplane.compute import hosts
from controlplane.compute import vms as rows
from controlplane.convergence.desired import desire_network
from controlplane.errors import ApiError
from controlplane.events import Level
from controlplane.hypervisors.base import GuestDisk, GuestSpec
from controlplane.hypervisors.base import Nic as Port
from controlplane.network import networks as network_rows
from controlplane.network import rates, segments, services
from controlplane.securitygroups import desired
from controlplane.securitygroups.compile import SERVICE
from controlplane.storage import volumes as volume_rows
from controlplane.store.models import Network, Nic, Vm, Volume, now
from controlplane.workflows import networks, templates, volumes
from controlplane.workflows.consoles import close_consoles
from controlplane.workflows.flow import Flow

#: states of VMs that nothing but expunging is left for
_GONE = ("Destroyed", "Expunging", "Error")


def deploy_vm(flow: Flow, vm_id: str) -> None:
    """Workflow: bring up a new VM's networks, then the VM. A failure gives its addresses back; the VM is in Error."""
    try:
        _bring_up(flow, vm_id)
    except ApiError:
        flow.step("give up", _give_up, vm_id)
        raise


def start_vm(flow: Flow, vm_id: str) -> None:
    """Workflow: start a stopped VM; on failure it is Stopped again and keeps what it has."""
    try:
        _bring_up(flow, vm_id)
    except ApiError:
        flow.step("stop", halt, vm_id, True)
        raise


def stop_vm(flow: Flow, vm_id: str, forced: bool = False) -> None:
    """Workflow: stop a VM; it keeps its addresses and rules."""
    flow.step("stop", halt, vm_id, forced)


def reboot_vm(flow: Flow, vm_id: str, forced: bool = False) -> None:
    """Workflow: stop a VM and start it again."""
    try:
        flow.step("halt", _power_off, vm_id, forced)
    except ApiError:
        flow.step("go on", _go_on, vm_id)
        raise
    try:
        flow.step("start", power_on, vm_id)
    except ApiError:
        flow.step("stop", halt, vm_id, True)
        raise


def destroy_vm(flow: Flow, vm_id: str, expunge: bool = False) -> None:
    """Workflow: stop a VM for good; with ``expunge`` free at once what it had, else after ``expunge.delay``."""
    flow.step("stop", halt, vm_id, True, "Destroyed")
    if expunge:
        flow.step("expunge", expunge_vm, vm_id)


def add_nic(flow: Flow, vm_id: str, nic_id: str) -> None:
    """Workflow: plug a NIC, whose row is there, into a VM. A failure removes the row."""
    try:
        flow.step("plug", _plug, vm_id, nic_id)
    except ApiError:
        flow.step("take back", _unplug, vm_id, nic_id)
        raise


def remove_nic(flow: Flow, vm_id: str, nic_id: str) -> None:
    """Workflow: unplug a NIC and free its address."""
    flow.step("unplug", _unplug, vm_id, nic_id)


def _bring_up(flow: Flow, vm_id: str) -> None:
    for network_id, nic_id in flow.step("look", _needs, vm_id):
        flow.step("network", networks.implement, network_id, [vm_id, nic_id])
    flow.step("template", templates.for_guest, vm_id)
    flow.step("start", power_on, vm_id)


def bring_up(flow: Flow, vm_id: str) -> None:
    """The same within a step of another workflow."""
    for network_id, nic_id in _needs(flow, vm_id):
        networks.implement(flow, network_id, [vm_id, nic_id])
    templates.for_guest(flow, vm_id)
    power_on(flow, vm_id)


def _needs(flow: Flow, vm_id: str) -> list[list[str]]:
    with flow.core.database.reading() as session:
        statement = select(Nic.network_id, Nic.id).where(Nic.vm_id == vm_id).order_by(Nic.device_id)
        return [list(row) for row in session.execute(statement)]


def power_on(flow: Flow, vm_id: str) -> None:
    # in turns with what stops and expunges it, or a machine could be left running without its rows
    with flow.locks.of(vm_id):
        _power_on_alone(flow, vm_id)


def _power_on_alone(flow: Flow, vm_id: str) -> None:
    disks = _disks(flow, vm_id)
    with flow.core.database.transaction() as session:
        vm = _existing(session, vm_id)
        if vm.state in _GONE:
            raise ApiError(f"virtual machine {vm.name} was destroyed meanwhile")
        wanted = [segments.of_guests(session, nic.network) for nic in vm.nics]
        spec = GuestSpec(
            id=vm.id,
            hostname=vm.name,
            nics=tuple(_port(flow, session, nic) for nic in vm.nics),
            template=vm.template.image,
            cpus=vm.service_offering.cpu_number,
            memory_mb=vm.service_offering.memory,
            disks=disks,
        )
        _told(vm, spec.nics)
        vm.state = "Starting"
        volume_rows.used(session, vm.id)
        desired.desire(session)
        spec = replace(spec, host=hosts.place(session, flow.core.configuration, vm).url)
    flow.core.policy_changed.set()
    for segment in wanted:
        flow.core.hypervisor.ensure_segment(segment)
    flow.core.hypervisor.start_guest(spec)
    with flow.core.database.transaction() as session:
        vm = _existing(session, vm_id)
        vm.state = "Running"
        network_rows.mark_idle(session, [nic.network_id for nic in vm.nics])


def _disks(flow: Flow, vm_id: str) -> tuple[GuestDisk, ...]:
    """Make the files of a VM's volumes that are not there yet. ApiError while something is being done to one."""
    with flow.core.database.reading() as session:
        name = _existing(session, vm_id).name
        there = volume_rows.of_vm(session, vm_id)
        for pool in (row.pool for row in there if row.pool is not None):
            if pool.state != "Up":
                raise ApiError(
                    f"storage pool {pool.name}, where volumes of virtual machine {name} are, is {pool.state}"
                )
        own = [(row.id, row.state) for row in there]
    for volume_id, state in own:
        if state == "Ready":
            continue
        if state in ("Resizing", "Migrating", "Reverting"):
            raise ApiError(f"a volume of virtual machine {name} is {state}; wait until that has ended, then start it")
        volumes.prepare(flow, volume_id)
    with flow.core.database.reading() as session:
        there = [row for row in volume_rows.of_vm(session, vm_id) if row.path and row.state != "Detaching"]
        plugged = [row.id for row in there if row.attached is None]
        disks = tuple(volume_rows.disk_of(row) for row in there)
    if plugged:
        with flow.core.database.transaction() as session:
            for volume_id in plugged:
                session.get_one(Volume, volume_id).attached = now()
    return disks


def _power_off(flow: Flow, vm_id: str, forced: bool) -> None:
    close_consoles(flow, vm_id, "the virtual machine was restarted")
    flow.core.hypervisor.stop(vm_id, force=forced)


def _go_on(flow: Flow, vm_id: str) -> None:
    # if it does not run after all, housekeeping will notice
    with flow.core.database.transaction() as session:
        vm = session.get_one(Vm, vm_id)
        if vm.state == "Starting":
            vm.state = "Running"


def halt(flow: Flow, vm_id: str, forced: bool, state: str = "Stopped") -> None:
    with flow.locks.of(vm_id):
        _halt_alone(flow, vm_id, forced, state)


def _halt_alone(flow: Flow, vm_id: str, forced: bool, state: str) -> None:
    with flow.core.database.transaction() as session:
        vm = session.get(Vm, vm_id)
        if vm is None or vm.removed is not None or (state == "Stopped" and vm.state in _GONE):
            return
        vm.state = "Stopping"
    close_consoles(flow, vm_id, "the virtual machine was stopped")
    flow.core.hypervisor.stop(vm_id, force=forced)
    with flow.core.database.transaction() as session:
        vm = session.get_one(Vm, vm_id)
        vm.state = state
        volume_rows.idle(session, vm_id)
        if state == "Destroyed":
            vm.destroyed = now()
            volume_rows.destroy_root(session, vm_id)
        desired.desire(session)
        network_rows.mark_idle(session, [nic.network_id for nic in vm.nics])
    flow.core.policy_changed.set()


def expunge_vm(flow: Flow, vm_id: str) -> None:
    """Remove a VM's machine and free what it had. Doing so twice does nothing. ApiError when it was recovered."""
    with flow.locks.of(vm_id):
        with flow.core.database.transaction() as session:
            vm = session.get(Vm, vm_id)
            if vm is None or vm.removed is not None:
                return
            if vm.state not in _GONE:
                raise ApiError(f"virtual machine {vm.name} was recovered meanwhile: it is {vm.state}")
            vm.state = "Expunging"
            root = volume_rows.root_of(session, vm_id)
            file = volume_rows.file_of(root) if root is not None and root.path else None
        flow.core.hypervisor.destroy(vm_id)
        if file is not None:
            flow.core.hypervisor.volumes.remove(file)
        with flow.core.database.transaction() as session:
            affected = rows.expunge(session, session.get_one(Vm, vm_id))
            network_rows.mark_idle(session, affected)
            routers_behind = [target for network in affected if (target := desire_network(session, network))]
    for router_id, _ in routers_behind:
        flow.reconciler.wake(router_id)


def _give_up(flow: Flow, vm_id: str) -> None:
    """A VM that could not be deployed: visible in state Error, but without addresses."""
    try:
        flow.core.hypervisor.destroy(vm_id)
    except Exception:
        # it may run, so its addresses stay its own; destroying it once more frees them
        with flow.core.database.transaction() as session:
            session.get_one(Vm, vm_id).state = "Error"
        raise
    with flow.core.database.transaction() as session:
        vm = session.get(Vm, vm_id)
        if vm is None or vm.removed is not None:
            return
        affected = [nic.network_id for nic in vm.nics]
        for nic in list(vm.nics):
            rows.remove_nic(session, nic)
        vm.state = "Error"
        volume_rows.destroy_root(session, vm_id)
        session.flush()
        network_rows.mark_idle(session, affected)
        routers_behind = [target for network in affected if (target := desire_network(session, network))]
    for router_id, _ in routers_behind:
        flow.reconciler.wake(router_id)


def _plug(flow: Flow, vm_id: str, nic_id: str) -> None:
    with flow.core.database.reading() as session:
        nic = session.get(Nic, nic_id)
        if nic is None:
            raise ApiError("the NIC is gone; it was removed meanwhile")
        port, network_id = _port(flow, session, nic), nic.network_id
        running = nic.vm.state == "Running"
    if running:
        networks.implement(flow, network_id, [vm_id, nic_id])
        with flow.core.database.transaction() as session:
            segment = segments.of_guests(session, session.get_one(Network, network_id))
        flow.core.hypervisor.ensure_segment(segment)
        flow.core.hypervisor.attach_nic(vm_id, port)
        with flow.core.database.transaction() as session:
            session.get_one(Nic, nic_id).rate_mbit = port.rate_mbit
            desired.desire(session)
            network_rows.mark_idle(session, [network_id])
        flow.core.policy_changed.set()


def _unplug(flow: Flow, vm_id: str, nic_id: str) -> None:
    with flow.core.database.reading() as session:
        nic = session.get(Nic, nic_id)
        mac = nic.mac if nic is not None else None
    if mac is None:
        return
    if flow.core.hypervisor.power(vm_id) != "absent":
        flow.core.hypervisor.detach_nic(vm_id, mac)
    with flow.core.database.transaction() as session:
        nic = session.get_one(Nic, nic_id)
        network_id = nic.network_id
        rows.remove_nic(session, nic)
        desired.desire(session)
        network_rows.mark_idle(session, [network_id])
        target = desire_network(session, network_id)
    flow.core.policy_changed.set()
    if target is not None:
        flow.reconciler.wake(target[0])


def _port(flow: Flow, session: Session, nic: Nic) -> Port:
    rate = rates.of_nic(session, flow.core.configuration, nic)
    segment = routers.guest_segment(nic.network_id)
    addresses = (nic.address, *(row.address for row in nic.secondary))
    secured = services.offers(nic.network, SERVICE)
    return Port(mac=nic.mac, segment=segment, rate_mbit=rate, addresses=addresses, secured=secured)


def _told(vm: Vm, ports: Iterable[Port]) -> None:
    """Note the rates that the hypervisor is about to be told; what changes meanwhile is followed (compute.rates)."""
    for nic, port in zip(vm.nics, ports, strict=True):
        nic.rate_mbit = port.rate_mbit


def _existing(session: Session, vm_id: str) -> Vm:
    vm = session.get(Vm, vm_id)
    if vm is None or vm.removed is not None:
        raise ApiError("the virtual machine is gone; it was expunged meanwhile")
    return vm


def tell(flow: Flow, vm_id: str, type: str, level: Level, what: str) -> None:
    """Record an event of a VM for its owner: its name and ``what``."""
    with flow.core.database.transaction() as session:
        vm = session.get(Vm, vm_id)
        if vm is not None:
            events.record(
                session,
                type,
                f"virtual machine {vm.name} {what}",
                account_id=vm.account_id,
                level=level,
                resource=("UserVm", vm.id),
            )
