"""A control plane with fake agents and a fake hypervisor, for tests of what happens in the background."""

from __future__ import annotations

import json
import os
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.orm import Session

from appliance.schema.envelope import Document, Role
from appliance.schema.status import Attempt, Health, Problem, Repair, ServiceHealth, Status
from appliance.schema.traffic import Traffic
from consoleproxy.document import ConsoleProxyDocument
from controlplane import routers
from controlplane.configuration import Configuration
from controlplane.convergence.converge import Remote
from controlplane.convergence.push import (
    AgentUnreachableError,
    CertificateExpiredError,
    DocumentRefusedError,
    StaleDocumentError,
)
from controlplane.convergence.reconciler import Pace, Reconciler
from controlplane.core import Core
from controlplane.hypervisors.base import (
    ApplianceSpec,
    ConsoleTarget,
    GuestDisk,
    GuestSpec,
    HostFacts,
    HypervisorError,
    Instance,
    Nic,
    Power,
    Segment,
)
from controlplane.hypervisors.policy import Policy
from controlplane.hypervisors.volumes import Space, Volumes
from controlplane.network import addresses
from controlplane.pki import Authority
from controlplane.secrets import Secrets
from controlplane.storage import pools
from controlplane.store.database import Database
from controlplane.store.defaults import SYSTEM_ACCOUNT_ID
from controlplane.store.models import Account, Appliance, AsyncJob, Event, Network, User
from controlplane.store.recordings import RecordingStore
from router.document import RouterDocument
from ssvm.document import SsvmDocument
from tests.rows import Rows

#: quick enough for a test, slow enough that a pause is a pause
PACE = Pace(poll=0.05, first=0.02, longest=0.1, booting=0.01, silence=0.2, sweep=0.2)


DOCUMENTS: dict[str, type[Document[Any]]] = {
    "router": RouterDocument,
    "consoleproxy": ConsoleProxyDocument,
    "ssvm": SsvmDocument,
}


@dataclass
class FakeAgent:
    """An agent in memory. Set the fields to make it behave as needed."""

    id: str
    role: Role = "router"
    reachable: bool = True
    #: what is wrong with a document, given the document
    judge: Callable[[dict[str, Any]], Sequence[Problem]] = lambda document: ()
    #: refuse when asked (422) rather than roll back afterwards
    at_once: bool = True
    healthy: bool = True
    expired: bool = False
    generation: int = 0
    pushed: list[dict[str, Any]] = field(default_factory=list)
    repairs: tuple[Repair, ...] = ()
    reports: dict[str, Any] = field(default_factory=dict)
    attempt: Attempt | None = None
    counted: Traffic | None = None
    #: recordings that it made, and that it was brought
    files: dict[str, bytes] = field(default_factory=dict)
    brought: dict[str, bytes] = field(default_factory=dict)
    renewals: int = 0
    calls: int = 0
    #: while cleared, a push does not return
    gate: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.gate.set()

    def _reach(self) -> None:
        self.calls += 1
        if not self.reachable:
            raise AgentUnreachableError(f"{self.id} at 169.254.1.1:9443 does not answer: Connection refused")
        if self.expired:
            raise CertificateExpiredError(f"the certificate of {self.id} has ended")

    def read_file(self, service: str, name: str, offset: int) -> bytes:
        self._reach()
        return self.files.get(name, b"")[offset : offset + 4]

    def write_file(self, service: str, name: str, offset: int, data: bytes) -> None:
        self._reach()
        self.brought[name] = self.brought.get(name, b"")[:offset] + data

    def remove_file(self, service: str, name: str) -> None:
        self._reach()
        self.files.pop(name, None)

    def push(self, document: bytes, *, wait: float = 0) -> Status:
        self._reach()
        self.gate.wait(10)
        parsed = json.loads(document)
        DOCUMENTS[self.role].model_validate(parsed)
        self.pushed.append(parsed)
        if parsed["generation"] < self.generation:
            raise StaleDocumentError(f"generation {self.generation} is newer")
        if problems := tuple(self.judge(parsed)):
            if self.at_once:
                raise DocumentRefusedError(problems)
            self.attempt = Attempt(
                generation=parsed["generation"],
                digest="d",
                outcome="rolled-back",
                problems=problems,
                finished=time.time(),
                seconds=0.1,
            )
        else:
            self.generation = parsed["generation"]
        return self.status()

    def status(self) -> Status:
        self._reach()
        return Status(
            id=self.id,
            role=self.role,
            version="1",
            started=1.0,
            generation=self.generation,
            digest="",
            attempt=self.attempt,
            repairs=self.repairs,
            reports=self.reports,
        )

    def traffic(self) -> Traffic | None:
        self._reach()
        return self.counted

    def health(self) -> Health:
        self._reach()
        detail = "" if self.healthy else "port 53 does not answer"
        services = {"dhcp": ServiceHealth(healthy=self.healthy, detail=detail, checked=time.time())}
        return Health(healthy=self.healthy, generation=self.generation, services=services)

    def certificate(self) -> None:
        return None

    def renew_certificate(self, role: str) -> None:
        self.renewals += 1
        self.expired = False

    def close(self) -> None:
        return None


@dataclass
class FakeVolumes(Volumes):
    """Files of volumes in memory: path -> bytes of the disk. ``fail`` makes what touches a file raise."""

    files: dict[Path, int] = field(default_factory=dict)
    #: what each was copied from
    origins: dict[Path, Path] = field(default_factory=dict)
    pools: dict[Path, Space] = field(default_factory=dict)
    fail: Callable[[Path], object] = lambda path: None

    def prepare_pool(self, pool: Path) -> None:
        self.pools.setdefault(pool, Space(100 << 30, 0))

    def space(self, pool: Path) -> Space:
        return self.pools.get(pool, Space(100 << 30, 0))

    def size(self, path: Path) -> int:
        return self.files[path]

    def used(self, path: Path) -> int:
        return self.files.get(path, 0) // 10

    def create(self, path: Path, size: int) -> None:
        self.fail(path)
        self.files.setdefault(path, size)

    def overlay(self, path: Path, backing: Path, size: int = 0) -> int:
        self.create(path, max(size, 2 << 30))
        return self.files[path]

    def copy(self, source: Path, target: Path) -> None:
        self.fail(target)
        self.files.setdefault(target, self.files[source])
        self.origins[target] = source

    def replace(self, path: Path, fresh: Path) -> None:
        assert path.parent == fresh.parent
        self.fail(path)
        self.files[path] = self.files.pop(fresh)
        self.origins[path] = self.origins[fresh]

    def resize(self, path: Path, size: int, *, shrink: bool = False) -> None:
        self.fail(path)
        assert shrink or size >= self.files[path]
        self.files[path] = size

    def remove(self, path: Path) -> None:
        self.files.pop(path, None)


@dataclass
class FakeHypervisor:
    """Notes what runs. ``fail`` makes starting an instance raise."""

    name: str = "Fake"
    running: dict[str, ApplianceSpec | GuestSpec] = field(default_factory=dict)
    stopped: dict[str, ApplianceSpec | GuestSpec] = field(default_factory=dict)
    segments: set[str] = field(default_factory=set)
    attached: list[tuple[str, Nic]] = field(default_factory=list)
    policies: list[Policy] = field(default_factory=list)
    #: what ``repair_filter`` finds next
    drift: list[list[str]] = field(default_factory=list)
    #: MAC -> what ``set_addresses`` was told last
    addresses: dict[str, tuple[str, ...]] = field(default_factory=dict)
    #: MAC -> what ``set_rate`` was told last
    rates: dict[str, int] = field(default_factory=dict)
    fail: Callable[[str], None] = lambda instance_id: None
    #: names of templates that guests can be made from
    templates: set[str] = field(default_factory=set)
    on_migrate: Callable[[str], object] = lambda instance_id: None
    on_stop: Callable[[str], object] = lambda instance_id: None
    volumes: FakeVolumes = field(default_factory=FakeVolumes)
    pool: Path = Path("/pool")
    #: running guest -> its disks
    disks: dict[str, set[Path]] = field(default_factory=dict)

    def make_root(self, path: Path, template: str, size: int) -> int:
        return self.volumes.overlay(path, Path("/templates") / template, size)

    def attach_disk(self, instance_id: str, disk: GuestDisk) -> None:
        self.volumes.fail(disk.path)
        if instance_id in self.running:
            self.disks.setdefault(instance_id, set()).add(disk.path)

    def detach_disk(self, instance_id: str, path: Path) -> None:
        self.disks.get(instance_id, set()).discard(path)

    def resize_disk(self, instance_id: str, path: Path, size: int) -> bool:
        if instance_id in self.running:
            self.volumes.files[path] = size
        return instance_id in self.running

    def copy_disk(self, instance_id: str, path: Path, target: Path, *, quiesce: bool) -> bool:
        if instance_id in self.running:
            self.volumes.copy(path, target)
        return instance_id in self.running

    def open(self) -> None:
        return None

    def close(self) -> None:
        return None

    def ensure_segment(self, segment: Segment) -> None:
        self.segments.add(segment.name)

    def remove_segment(self, name: str) -> None:
        self.segments.discard(name)

    def _start(self, spec: ApplianceSpec | GuestSpec) -> None:
        self.fail(spec.id)
        assert {nic.segment for nic in spec.nics} <= self.segments
        self.stopped.pop(spec.id, None)
        self.running.setdefault(spec.id, spec)

    def start_appliance(self, spec: ApplianceSpec) -> None:
        self._start(spec)

    def start_guest(self, spec: GuestSpec) -> None:
        self._start(spec)
        assert {disk.path for disk in spec.disks} <= self.volumes.files.keys()
        self.disks[spec.id] = {disk.path for disk in spec.disks}

    def images(self) -> Path:
        return Path(tempfile.gettempdir()) / f"gatehouse-fake-images-{os.getpid()}"

    def has_template(self, name: str) -> bool:
        return name in self.templates

    def add_template(self, name: str, image: Path) -> None:
        self.templates.add(name)

    def remove_template(self, name: str) -> None:
        self.templates.discard(name)

    def stop(self, instance_id: str, *, force: bool = False) -> None:
        self.on_stop(instance_id)
        if instance_id in self.running:
            self.stopped[instance_id] = self.running.pop(instance_id)

    def destroy(self, instance_id: str) -> None:
        self.running.pop(instance_id, None)
        self.stopped.pop(instance_id, None)

    def migrate(self, instance_id: str, host: str) -> None:
        self.on_migrate(instance_id)
        self.running[instance_id] = replace(self.running[instance_id], host=host)

    def attach_nic(self, instance_id: str, nic: Nic) -> None:
        assert nic.segment in self.segments
        self.attached.append((instance_id, nic))

    def detach_nic(self, instance_id: str, mac: str) -> None:
        self.attached = [(id, nic) for id, nic in self.attached if (id, nic.mac) != (instance_id, mac)]

    def set_rate(self, instance_id: str, mac: str, rate_mbit: int) -> None:
        assert instance_id in self.running
        self.rates[mac] = rate_mbit

    def apply_policy(self, policy: Policy) -> None:
        self.policies.append(policy)

    def repair_filter(self) -> list[str]:
        return self.drift.pop() if self.drift else []

    def set_addresses(self, instance_id: str, mac: str, addresses: Sequence[str]) -> None:
        self.addresses[mac] = tuple(addresses)

    def instances(self) -> list[Instance]:
        return [Instance(id, "guest", self.power(id)) for id in [*self.running, *self.stopped]]

    def power(self, instance_id: str) -> Power:
        if instance_id in self.running:
            return "running"
        return "stopped" if instance_id in self.stopped else "absent"

    def connect(self, address: str, port: int, timeout: float) -> socket.socket:
        raise ConnectionRefusedError("agents are fake here")

    def console(self, instance_id: str) -> ConsoleTarget:
        if self.power(instance_id) != "running":
            raise HypervisorError(f"{instance_id} does not run")
        return ConsoleTarget("169.254.0.1", 5900, "vnc", password="s3cret12")

    def exec(self, instance_id: str, argv: Sequence[str]) -> int:
        return 0

    def facts(self) -> list[HostFacts]:
        return [HostFacts("host1", "Fake", 4, 8 << 30, url="fake://host1")]

    def add_host(self, url: str) -> HostFacts:
        return HostFacts("host2", "Fake", 4, 8 << 30, url=url)

    def remove_host(self, url: str) -> None:
        pass

    def console_log(self, instance_id: str) -> str:
        return ""


class Fleet:
    """Rows, agents by appliance id, and a reconciler that is started by the test."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.database = Database.in_directory(directory)
        self.database.migrate()
        self.hypervisor = FakeHypervisor()
        self.agents: dict[str, FakeAgent] = {}
        secrets, authority = Secrets(b"k" * 32), Authority(directory / "pki")
        recordings = RecordingStore(directory / "recordings")
        self.core = Core(self.database, Configuration(), secrets, authority, self.hypervisor, recordings, "cloud")
        monkeypatch.setattr("controlplane.convergence.reconciler.open_remote", self._open_remote)
        monkeypatch.setattr("controlplane.console.recordings.AgentClient", lambda agent, *_: self.agents[agent.id])
        self.reconciler = Reconciler(self.core, PACE)
        with self.database.transaction() as session:
            rows = Rows(session)
            self.rows = rows
            user = rows.add(User(account_id=rows.account.id, username="alice"))
            self.user_id = user.id
            # owns the system VMs
            rows.add(Account(id=SYSTEM_ACCOUNT_ID, name="system", domain_id=rows.domain.id, type=1))
            pools.ensure_default(session, rows.zone.id, str(self.hypervisor.pool))

    def _open_remote(self, core: Core, appliance: Appliance) -> Remote:
        agent: Any = self.agents.setdefault(appliance.id, FakeAgent(appliance.id, appliance.role))  # type: ignore[arg-type]
        return Remote(appliance.id, appliance.role, agent)

    def in_session(self, session: Session) -> Rows:
        """The rows' maker on another session."""
        self.rows.session = session
        for name in ("domain", "account", "zone", "physical", "public", "offering", "size", "template"):
            row = getattr(self.rows, name)
            setattr(self.rows, name, session.get_one(type(row), row.id))
        return self.rows

    def router(self) -> tuple[str, FakeAgent]:
        """A running router of a new network, at generation 1 of nothing in particular."""
        with self.database.transaction() as session:
            network = self.in_session(session).network(name=f"net{len(self.agents)}")
            network.state = "Implemented"
            addresses.ensure_source_nat(session, network)
            router = routers.create(session, network)
            router.state, router.desired_generation = "Running", 1
        agent = self.agents[router.id] = FakeAgent(router.id)
        return router.id, agent

    def network_of(self, session: Session, router_id: str) -> Network:
        return session.get_one(Network, session.get_one(Appliance, router_id).network_id)

    def job(self, session: Session, target: tuple[str, int] | None, **values: Any) -> str:
        """A pending job in the caller's transaction."""
        appliance_id, generation = target or (None, None)
        job = AsyncJob(
            command="createFirewallRule",
            user_id=self.user_id,
            account_id=self.rows.account.id,
            appliance_id=appliance_id,
            generation=generation,
            **values,
        )
        session.add(job)
        session.flush()
        return job.id

    def read(self, model: type[Any], id: str) -> Any:
        with self.database.reading() as session:
            return session.get_one(model, id)

    def events(self, type: str) -> list[str]:
        with self.database.reading() as session:
            return [event.description for event in session.query(Event).filter_by(type=type).order_by(Event.created)]

    def close(self) -> None:
        for agent in self.agents.values():
            agent.gate.set()
        self.reconciler.stop()
        self.database.close()
