"""A control plane seen from outside: what its tables tell the command line, whether it runs or not."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Select, func, or_, select
from sqlalchemy.orm import Session

from appliance.errors import GatehouseError
from controlplane.installation import LOCK, read_installation
from controlplane.jobs import PENDING
from controlplane.secrets import load_secrets
from controlplane.store.database import Database
from controlplane.store.defaults import ADMIN_USER_ID
from controlplane.store.models import Appliance, AsyncJob, Network, User, Vm


@contextmanager
def _tables(data: Path) -> Iterator[Session]:
    read_installation(data)
    if not (data / "gatehouse.db").exists():
        raise GatehouseError(f"{data} has no database yet; wait for gatehouse serve to have started")
    database = Database.in_directory(data)
    try:
        with database.reading() as session:
            yield session
    finally:
        database.close()


def admin_keys(data: Path) -> dict[str, str]:
    """Endpoint, API key and secret key of the first administrator."""
    installation = read_installation(data)
    with _tables(data) as session:
        user = session.get(User, ADMIN_USER_ID)
        if user is None or user.api_key is None or user.secret_key is None:
            raise GatehouseError("the administrator has no API keys; make them with registerUserKeys")
        secret = load_secrets(data).open(user.secret_key)
        return {"endpoint": installation.endpoint, "apikey": user.api_key, "secretkey": secret}


@dataclass(frozen=True)
class ApplianceStatus:
    name: str
    state: str
    #: None before the first report
    healthy: bool | None
    #: whether the newest rules have arrived
    current: bool
    error: str | None


@dataclass(frozen=True)
class Status:
    """A control plane at a glance."""

    running: bool
    endpoint: str
    networks: int
    virtual_machines: int
    pending_jobs: int
    routers: tuple[ApplianceStatus, ...]
    system_vms: tuple[ApplianceStatus, ...]

    @property
    def good(self) -> bool:
        """It runs, and no running appliance is known to fail."""
        return self.running and not any(
            one.state == "Running" and one.healthy is False for one in (*self.routers, *self.system_vms)
        )

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def as_text(self) -> str:
        lines = [
            f"control plane     {'running' if self.running else 'NOT RUNNING'}",
            f"API               {self.endpoint}",
            f"networks          {self.networks}",
            f"virtual machines  {self.virtual_machines}",
            f"pending jobs      {self.pending_jobs}",
            f"routers           {len(self.routers)}",
            *map(_line, self.routers),
            f"system VMs        {len(self.system_vms)}",
            *map(_line, self.system_vms),
        ]
        return "\n".join(lines)


def _line(one: ApplianceStatus) -> str:
    health = {True: "healthy", False: "NOT HEALTHY", None: "no report yet"}[one.healthy]
    rules = "up to date" if one.current else "changes on their way"
    return f"  {one.name}  {one.state}, {health}, {rules}{f': {one.error}' if one.error else ''}"


def status(data: Path) -> Status:
    """Read the state from lock and tables; the control plane need not run."""
    installation = read_installation(data)
    with _tables(data) as session:
        there = select(Appliance).where(Appliance.removed.is_(None), Appliance.state != "Destroyed")
        appliances = session.scalars(there.order_by(Appliance.name)).all()
        return Status(
            running=_is_running(data),
            endpoint=installation.endpoint,
            networks=_count(session, select(func.count()).select_from(Network).where(Network.removed.is_(None))),
            virtual_machines=_count(session, select(func.count()).select_from(Vm).where(Vm.removed.is_(None))),
            pending_jobs=_count(session, select(func.count()).select_from(AsyncJob).where(AsyncJob.status == PENDING)),
            routers=tuple(_appliance(row) for row in appliances if row.role == "router"),
            system_vms=tuple(_appliance(row) for row in appliances if row.role != "router"),
        )


def _appliance(row: Appliance) -> ApplianceStatus:
    return ApplianceStatus(
        name=row.name,
        state=row.state,
        healthy=row.healthy,
        current=row.observed_generation >= row.desired_generation,
        error=row.last_error,
    )


def _count(session: Session, statement: Select[int]) -> int:
    return session.scalar(statement) or 0


def _is_running(data: Path) -> bool:
    """Whether a process holds the lock of the data directory."""
    try:
        with (data / LOCK).open("r") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def find_instance(data: Path, name: str) -> str:
    """The id of the guest or appliance with this id, name or display name. GatehouseError for none, or several."""
    with _tables(data) as session:
        guests = select(Vm.id).where(Vm.removed.is_(None), or_(Vm.id == name, Vm.name == name, Vm.display_name == name))
        routers = select(Appliance.id).where(
            Appliance.removed.is_(None), or_(Appliance.id == name, Appliance.name == name)
        )
        found = sorted({*session.scalars(guests), *session.scalars(routers)})
        if not found:
            known = ", ".join(session.scalars(select(Vm.name).where(Vm.removed.is_(None)).order_by(Vm.name).limit(20)))
            raise GatehouseError(f"there is no guest or router {name}; guests: {known or 'none'}")
        if len(found) > 1:
            raise GatehouseError(f"{len(found)} guests are called {name}; use an id: {', '.join(found)}")
        [instance_id] = found
        return str(instance_id)
