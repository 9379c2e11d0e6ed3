"""The running control plane: everything composed, started and stopped in order."""

from __future__ import annotations

import fcntl
import logging
import os
import uuid
from pathlib import Path
from typing import IO, Any

from appliance.errors import GatehouseError
from controlplane.configuration import Configuration
from controlplane.console.consoles import Consoles
from controlplane.console.keeper import Keeper
from controlplane.convergence.reconciler import Pace, Reconciler, WaitError
from controlplane.core import Core
from controlplane.errors import ApiError
from controlplane.housekeeping import Housekeeping
from controlplane.hypervisors.base import Hypervisor
from controlplane.hypervisors.registry import HypervisorOptions, make_hypervisor
from controlplane.imagestores.keeper import StorageKeeper
from controlplane.installation import LOCK
from controlplane.pki import Authority
from controlplane.secrets import Secrets, load_secrets
from controlplane.securitygroups.keeper import PolicyKeeper
from controlplane.storage import pools, volumes
from controlplane.store.database import Database
from controlplane.store.defaults import ensure_defaults
from controlplane.store.recordings import RecordingStore
from controlplane.usage import recorder
from controlplane.workflows.engine import Workflows

log = logging.getLogger(__name__)


class Runtime:
    """One control plane on one data directory, between ``open`` and ``close``. One a process."""

    def __init__(
        self,
        data: Path,
        *,
        hypervisor: str = "namespace",
        hypervisor_options: HypervisorOptions | None = None,
        pace: Pace | None = None,
    ) -> None:
        self._data = data.absolute()
        self._hypervisor_name = hypervisor
        self._hypervisor_options = hypervisor_options
        self._pace = pace or Pace()
        self._owner: IO[str] | None = None
        self._core: Core | None = None
        self._reconciler: Reconciler | None = None
        self._workflows: Workflows | None = None
        self._housekeeping: Housekeeping | None = None
        self._keeper: Keeper | None = None
        self._storage_keeper: StorageKeeper | None = None
        self._policy_keeper: PolicyKeeper | None = None

    def open(self) -> None:
        """Take the data directory, bring its tables up to date and go on where the last process stopped.

        Raises GatehouseError when another process has the directory.
        """
        self._data.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._owner = _claim(self._data)
        try:
            self._open()
        except BaseException:
            self.close()
            raise

    def _open(self) -> None:
        database = Database.in_directory(self._data)
        database.migrate()
        secrets = load_secrets(self._data)
        authority = Authority(self._data / "pki")
        hypervisor = make_hypervisor(self._hypervisor_name, self._data, self._hypervisor_options)
        # the authority is the installation's identity: it is made once and lives as long
        cloud = str(uuid.uuid5(uuid.NAMESPACE_OID, authority.certificate.decode()))
        recordings = RecordingStore(self._data / "recordings")
        self._core = Core(database, Configuration(), secrets, authority, hypervisor, recordings, cloud)
        hypervisor.open()
        with database.transaction() as session:
            ensure_defaults(session, secrets, hypervisor.facts(), self._data)
            hypervisor.volumes.prepare_pool(hypervisor.pool)
            pools.ensure_defaults(session, hypervisor.pool)
            pools.note_space(session, hypervisor.volumes)
            volumes.adopt(session, hypervisor.volumes)
        with database.transaction() as session:
            recorder.catch_up(session)
        self._reconciler = Reconciler(self._core, self._pace)
        self._workflows = Workflows(self._core, self._reconciler, self._data)
        self._housekeeping = Housekeeping(self._core, self._reconciler, self._workflows.locks, self._workflows.start)
        self._keeper = Keeper(self._core, self._reconciler, self._workflows.locks)
        self._storage_keeper = StorageKeeper(self._core, self._reconciler, self._workflows.locks)
        self._policy_keeper = PolicyKeeper(self._core)
        self._policy_keeper.start()
        self._reconciler.start()
        self._workflows.open()
        self._housekeeping.start()
        self._keeper.start()
        self._storage_keeper.start()

    def close(self) -> None:
        """Stop. Appliances and guests go on running; work under way is taken up again by the next ``open``."""
        if self._housekeeping is not None:
            self._housekeeping.stop()
        for keeper in (self._keeper, self._storage_keeper):
            if keeper is not None:
                keeper.stop()
        if self._reconciler is not None:
            self._reconciler.stop()
        if self._workflows is not None:
            self._workflows.close()
        if self._policy_keeper is not None:
            self._policy_keeper.stop()
        if self._core is not None:
            self._core.hypervisor.close()
            self._core.database.close()
        if self._owner is not None:
            self._owner.close()
        self._owner = self._core = self._reconciler = self._workflows = self._housekeeping = None
        self._keeper = self._storage_keeper = self._policy_keeper = None

    @property
    def core(self) -> Core:
        assert self._core is not None, "open() comes first"
        return self._core

    @property
    def data(self) -> Path:
        """The data directory."""
        return self._data

    @property
    def images(self) -> Path:
        """The hypervisor's directory for images."""
        return self.core.hypervisor.images()

    @property
    def database(self) -> Database:
        return self.core.database

    @property
    def configuration(self) -> Configuration:
        return self.core.configuration

    @property
    def secrets(self) -> Secrets:
        return self.core.secrets

    @property
    def authority(self) -> Authority:
        return self.core.authority

    @property
    def hypervisor(self) -> Hypervisor:
        return self.core.hypervisor

    @property
    def recordings(self) -> RecordingStore:
        return self.core.recordings

    @property
    def reconciler(self) -> Reconciler:
        assert self._reconciler is not None, "open() comes first"
        return self._reconciler

    @property
    def consoles(self) -> Consoles:
        assert self._keeper is not None, "open() comes first"
        return Consoles(self.core, self.reconciler, self._keeper)

    def wake(self, appliance_id: str) -> None:
        """Look at this appliance's desired generation now; after the commit, from any thread."""
        self.reconciler.wake(appliance_id)

    def reach(self, appliance_id: str, generation: int, timeout: float) -> None:
        """Wait until an appliance has a generation; after the commit. Raises ApiError."""
        try:
            self.reconciler.wait(appliance_id, generation, timeout=timeout)
        except WaitError as error:
            raise ApiError(str(error)) from error

    def keep_storage(self) -> None:
        """Look now at what there is to do in secondary storage; after the commit, from any thread."""
        self.core.storage_changed.set()

    def enforce_policy(self) -> None:
        """Have the hosts enforce the newest policy of guests' ports now; after the commit, from any thread."""
        self.core.policy_changed.set()

    def hurry(self, task: str) -> None:
        """Have a task of housekeeping done at once; after the commit, from any thread."""
        if self._housekeeping is not None:
            self._housekeeping.hurry(task)

    def start_workflow(self, name: str, job_id: str, arguments: dict[str, Any]) -> None:
        """Start a durable workflow under the job's id; after the commit, from any thread."""
        assert self._workflows is not None, "open() comes first"
        self._workflows.start(name, job_id, arguments)


def _claim(data: Path) -> IO[str]:
    file = (data / LOCK).open("a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        owner = file.read().strip()
        file.close()
        raise GatehouseError(
            f"{data} is in use by a control plane that runs already (process {owner or 'unknown'}); "
            "stop it first, or use another --data directory"
        ) from None
    file.truncate(0)
    file.write(f"{os.getpid()}\n")
    file.flush()
    return file
