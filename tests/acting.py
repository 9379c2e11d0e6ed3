"""A control plane whose routers and workflows do at once, in rows alone, what the real ones do in the world."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from pydantic_core import from_json
from sqlalchemy import select
from sqlalchemy.orm import Session

from appliance.schema.status import Status
from controlplane import jobs, routers
from controlplane.compute import vms
from controlplane.convergence.compile.router import compile_router
from controlplane.convergence.desired import desire
from controlplane.convergence.intent.load import load
from controlplane.convergence.observe import take_status
from controlplane.convergence.roles import role_of
from controlplane.errors import ApiError
from controlplane.network import addresses
from controlplane.securitygroups import desired as policy
from controlplane.storage import volumes
from controlplane.store.defaultofferings import DEFAULT_NETWORK_OFFERING
from controlplane.store.models import (
    Account,
    Appliance,
    AsyncJob,
    Event,
    Network,
    NetworkOffering,
    Nic,
    ServiceOffering,
    Snapshot,
    StoragePool,
    Template,
    Vm,
    Volume,
    Zone,
    now,
)
from router.document import RouterDocument
from tests.control import Caller, FakeRuntime, answer_of


@dataclass
class ActingRuntime(FakeRuntime):
    """Ends every job before the call that made it returns. ``fail`` makes the next job fail with that text."""

    fail: str | None = None
    #: a router that is asleep observes nothing
    asleep: bool = False
    ended: list[str] = field(default_factory=list)

    def wake(self, appliance_id: str) -> None:
        super().wake(appliance_id)
        if self.asleep:
            return
        with self.database.transaction() as session:
            router = session.get_one(Appliance, appliance_id)
            router.observed_generation = router.desired_generation
            for job in jobs.reached(session, appliance_id, router.observed_generation):
                self._end(session, job)

    def enforce_policy(self) -> None:
        super().enforce_policy()
        with self.database.transaction() as session:
            wanted, _, _ = policy.progress(session)
            policy.observe(session, wanted, None)

    def start_workflow(self, name: str, job_id: str, arguments: dict[str, Any]) -> None:
        super().start_workflow(name, job_id, arguments)
        with self.database.transaction() as session:
            if self.fail is None:
                WORKFLOWS[name](session, **arguments)
                session.flush()
            self._end(session, session.get_one(AsyncJob, job_id))

    def _end(self, session: Session, job: AsyncJob) -> None:
        self.ended.append(job.command)
        if self.fail is not None:
            jobs.fail(session, job, ApiError(self.fail))
            self.fail = None
        else:
            jobs.succeed(session, job)


def _implement(session: Session, network_id: str) -> None:
    network = session.get_one(Network, network_id)
    if routers.of_network(session, network_id) is None:
        addresses.ensure_source_nat(session, network)
        router = routers.create(session, network)
        router.state, router.healthy = "Running", True
        router.health = {"dhcp": {"healthy": True, "detail": ""}}
        router.observed_generation = desire(session, router.id)
    network.state, network.restart_required = "Implemented", False


def _remove_router(session: Session, router: Appliance | None) -> None:
    if router is not None:
        router.state, router.removed, router.control_address = "Destroyed", now(), f"gone-{router.id[:10]}"


def _start(session: Session, vm_id: str) -> None:
    vm = session.get_one(Vm, vm_id)
    for nic in vm.nics:
        _implement(session, nic.network_id)
    vm.state = "Running"
    for volume in volumes.of_vm(session, vm_id):
        _attach_volume(session, volume.id)
        volume.size = volume.size or 2 << 30
    volumes.used(session, vm_id)


def _stop(session: Session, vm_id: str, forced: bool) -> None:
    session.get_one(Vm, vm_id).state = "Stopped"
    volumes.idle(session, vm_id)


def _reboot(session: Session, vm_id: str, forced: bool) -> None:
    _start(session, vm_id)


def _destroy(session: Session, vm_id: str, expunge: bool) -> None:
    vm = session.get_one(Vm, vm_id)
    vm.state = "Destroyed"
    volumes.destroy_root(session, vm_id)
    if expunge:
        vms.expunge(session, vm)


def _migrate(session: Session, vm_id: str, host_id: str, source_id: str) -> None:
    vm = session.get_one(Vm, vm_id)
    assert vm.host_id == source_id
    vm.host_id = host_id


def _add_nic(session: Session, vm_id: str, nic_id: str) -> None:
    _implement(session, session.get_one(Nic, nic_id).network_id)


def _follow_nic(session: Session, nic_id: str, added: str | None = None) -> None:
    session.get_one(Nic, nic_id)


def _remove_nic(session: Session, vm_id: str, nic_id: str) -> None:
    vms.remove_nic(session, session.get_one(Nic, nic_id))


def _restart(session: Session, network_id: str, cleanup: bool) -> None:
    if cleanup:
        _remove_router(session, routers.of_network(session, network_id))
    _implement(session, network_id)


def _delete(session: Session, network_id: str) -> None:
    _remove_router(session, routers.of_network(session, network_id))


def _router_state(state: str) -> Callable[..., None]:
    def change(session: Session, router_id: str, forced: bool = False) -> None:
        router = session.get_one(Appliance, router_id)
        router.state = router.desired_state = state

    return change


def _destroy_router(session: Session, router_id: str) -> None:
    _remove_router(session, session.get_one(Appliance, router_id))


def _reach_routers(session: Session, routers: list[tuple[str, int]]) -> None:
    for router_id, generation in routers:
        router = session.get_one(Appliance, router_id)
        assert router.desired_generation >= generation
        router.observed_generation = router.desired_generation


def _system_vm_state(state: str) -> Callable[..., None]:
    def change(session: Session, appliance_id: str, forced: bool = False) -> None:
        appliance = session.get_one(Appliance, appliance_id)
        appliance.state = appliance.desired_state = state

    return change


def _destroy_system_vm(session: Session, appliance_id: str) -> None:
    _remove_router(session, session.get_one(Appliance, appliance_id))


def _apply_security_groups(session: Session, generation: int) -> None:
    """Hosts follow at once."""


def _make_volume(session: Session, volume_id: str) -> None:
    volume = session.get_one(Volume, volume_id)
    pool = session.scalars(select(StoragePool).where(StoragePool.zone_id == volume.zone_id)).first()
    volume.pool, volume.path, volume.state = pool, f"volumes/{volume.id}.qcow2", "Ready"


def _attach_volume(session: Session, volume_id: str) -> None:
    _make_volume(session, volume_id)
    session.get_one(Volume, volume_id).attached = now()


def _detach_volume(session: Session, volume_id: str) -> None:
    volumes.detach(session, session.get_one(Volume, volume_id))


def _resize_volume(session: Session, volume_id: str, size: int, shrink: bool, disk_offering_id: str | None) -> None:
    volume = session.get_one(Volume, volume_id)
    volume.size, volume.disk_offering_id, volume.state = size, disk_offering_id, volumes.settled(volume)


def _migrate_volume(session: Session, volume_id: str, pool_id: str) -> None:
    volume = session.get_one(Volume, volume_id)
    volume.pool_id, volume.state = pool_id, "Ready"


def _delete_volume(session: Session, volume_id: str) -> None:
    volumes.expunge(session, session.get_one(Volume, volume_id))


def _create_snapshot(session: Session, snapshot_id: str, quiesce: bool = False) -> None:
    session.get_one(Snapshot, snapshot_id).state = "BackedUp"


def _delete_snapshot(session: Session, snapshot_id: str) -> None:
    session.get_one(Snapshot, snapshot_id).removed = now()


def _revert_snapshot(session: Session, snapshot_id: str, volume_id: str) -> None:
    session.get_one(Volume, volume_id).state = "Ready"


def _pool_state(state: str) -> Callable[..., None]:
    def change(session: Session, pool_id: str) -> None:
        session.get_one(StoragePool, pool_id).state = state

    return change


WORKFLOWS: dict[str, Callable[..., None]] = {
    "apply_security_groups": _apply_security_groups,
    "deploy_vm": _start,
    "start_vm": _start,
    "stop_vm": _stop,
    "await_images": lambda session, image_ids: None,
    "prepare_template": lambda session, template_id, zone_id: None,
    "reboot_vm": _reboot,
    "destroy_vm": _destroy,
    "migrate_vm": _migrate,
    "add_nic": _add_nic,
    "follow_nic": _follow_nic,
    "remove_nic": _remove_nic,
    "make_volume": _make_volume,
    "attach_volume": _attach_volume,
    "detach_volume": _detach_volume,
    "resize_volume": _resize_volume,
    "migrate_volume": _migrate_volume,
    "delete_volume": _delete_volume,
    "prepare_pool": _pool_state("Maintenance"),
    "resume_pool": _pool_state("Up"),
    "create_snapshot": _create_snapshot,
    "delete_snapshot": _delete_snapshot,
    "revert_snapshot": _revert_snapshot,
    "implement_network": _implement,
    "restart_network": _restart,
    "delete_network": _delete,
    "start_router": _router_state("Running"),
    "stop_router": _router_state("Stopped"),
    "reboot_router": _router_state("Running"),
    "destroy_router": _destroy_router,
    "start_system_vm": _system_vm_state("Running"),
    "stop_system_vm": _system_vm_state("Stopped"),
    "reboot_system_vm": _system_vm_state("Running"),
    "destroy_system_vm": _destroy_system_vm,
    "show_certificates": lambda session: None,
    "reach_routers": _reach_routers,
}


def result_of(runtime: FakeRuntime, answer: dict[str, Any]) -> dict[str, Any]:
    """What a job answered, its sealed texts opened, from the answer of the call that made it."""
    with runtime.database.reading() as session:
        job = session.get_one(AsyncJob, answer["jobid"])
        assert job.status == jobs.SUCCEEDED, f"{job.command}: {job.status} {job.result}"
        result: dict[str, Any] = runtime.secrets.reveal(job.result)
        return result


def _router(session: Session, network_id: str) -> Appliance:
    return session.scalars(select(Appliance).where(Appliance.network_id == network_id)).one()


@dataclass
class Tenant:
    """Calls of one user, and the ids that most of them need."""

    call: Caller
    runtime: ActingRuntime
    zone: str = ""
    template: str = ""
    size: str = ""
    #: network offerings by name
    offerings: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        with self.runtime.database.reading() as session:
            self.zone = session.scalars(select(Zone.id)).one()
            self.template = session.scalars(select(Template.id).where(Template.image == "builtin")).one()
            self.size = session.scalars(
                select(ServiceOffering.id).where(ServiceOffering.name == "Small Instance")
            ).one()
            self.offerings = {row.name: row.id for row in session.scalars(select(NetworkOffering))}

    def run(self, command: str, **params: object) -> Any:
        """Call an asynchronous command; what its job answers, without the key around it."""
        result = result_of(self.runtime, self.call(command, **params))
        return result if "success" in result else answer_of(result)

    def network(self, **params: object) -> dict[str, Any]:
        params = {
            "name": "net",
            "zoneid": self.zone,
            "networkofferingid": self.offerings[DEFAULT_NETWORK_OFFERING],
        } | params
        made: dict[str, Any] = self.call("createNetwork", **params)["network"]
        return made

    def vm(self, **params: object) -> dict[str, Any]:
        params = {"zoneid": self.zone, "templateid": self.template, "serviceofferingid": self.size} | params
        made: dict[str, Any] = self.run("deployVirtualMachine", **params)
        return made

    def router_state(self, network_id: str) -> dict[str, Any]:
        """The state that a network's router would be sent now; the document must be a valid one."""
        with self.runtime.database.reading() as session:
            router = _router(session, network_id)
            body = compile_router(load(session, router.id, self.runtime.secrets, "cloud", self.runtime.configuration))
        RouterDocument.model_validate(from_json(body))
        state: dict[str, Any] = from_json(body)["state"]
        return state

    def take_reports(self, network_id: str, reports: dict[str, Any]) -> bool:
        """Take in what the services of a network's router report; whether it was news."""
        with self.runtime.database.transaction() as session:
            router = _router(session, network_id)
            status = Status(
                id=router.id,
                role="router",
                version=router.version or "1",
                started=1.0,
                generation=router.observed_generation,
                digest="",
                reports=reports,
            )
            news = role_of(router).has_reports(router, status)
            take_status(session, router, status)
            return news

    def address(self, network_id: str, **params: object) -> dict[str, Any]:
        made: dict[str, Any] = self.run("associateIpAddress", networkid=network_id, **params)
        return made

    def limit(self, account: str, setting: str, value: int) -> None:
        """Set a limit of one account."""
        with self.runtime.database.transaction() as session:
            [found] = session.scalars(select(Account.id).where(Account.name == account))
            self.runtime.configuration.set(session, setting, str(value), "account", found)

    def events(self) -> list[tuple[str, str]]:
        """Type and state of what was recorded, oldest first."""
        with self.runtime.database.reading() as session:
            rows = session.execute(select(Event.type, Event.state).order_by(Event.created))
            return [(row.type, row.state) for row in rows]
