"""Durable workflows on DBOS: each survives a crash of the control plane and is taken up again at the next start.

DBOS keeps what has been done in a database of its own. Everything it stores is JSON. There is one DBOS workflow, which
runs ours by name; its id is the job's, so that starting twice is the same as starting once.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from dbos import DBOS, DBOSConfig, DBOSPortableJSONSerializer, SetWorkflowID
from sqlalchemy.engine import URL

from controlplane import jobs
from controlplane.convergence.reconciler import Reconciler
from controlplane.core import Core
from controlplane.errors import ApiError
from controlplane.store.models import AsyncJob
from controlplane.workflows import (
    maintenance,
    migration,
    networks,
    pools,
    routers,
    securitygroups,
    snapshots,
    systemvms,
    templates,
    transfers,
    vms,
    volumes,
)
from controlplane.workflows.flow import Flow, Locks
from controlplane.workflows.nics import follow_nic

log = logging.getLogger(__name__)

WORKFLOWS: Mapping[str, Callable[..., None]] = {
    function.__name__: function
    for function in (
        networks.implement_network,
        securitygroups.apply_security_groups,
        networks.restart_network,
        networks.delete_network,
        routers.start_router,
        routers.stop_router,
        routers.reboot_router,
        routers.destroy_router,
        routers.reach_routers,
        systemvms.start_system_vm,
        systemvms.stop_system_vm,
        systemvms.reboot_system_vm,
        systemvms.destroy_system_vm,
        systemvms.show_certificates,
        maintenance.prepare_host,
        migration.migrate_vm,
        templates.await_images,
        templates.prepare_template,
        vms.deploy_vm,
        vms.start_vm,
        vms.stop_vm,
        vms.reboot_vm,
        vms.destroy_vm,
        vms.add_nic,
        follow_nic,
        vms.remove_nic,
        pools.prepare_pool,
        pools.resume_pool,
        volumes.make_volume,
        volumes.attach_volume,
        volumes.detach_volume,
        volumes.resize_volume,
        volumes.migrate_volume,
        volumes.delete_volume,
        snapshots.create_snapshot,
        snapshots.delete_snapshot,
        snapshots.revert_snapshot,
        transfers.create_template,
        transfers.extract_volume,
    )
}

#: workflows that run at once; more wait. Most of their time they wait for routers and guests to start
THREADS = 64
#: steps are compatible between versions of this program, so the next version goes on with what this one began
STEPS_VERSION = "1"


class Workflows:
    """Runs workflows between ``open`` and ``close``. One a process: DBOS itself is one a process."""

    def __init__(self, core: Core, reconciler: Reconciler, directory: Path) -> None:
        self.core, self.reconciler = core, reconciler
        self.locks = Locks()
        self._path = directory / "workflows.db"
        self._run: Callable[[str, str, dict[str, Any]], None] | None = None

    def open(self) -> None:
        """Start, and take up again what a crash interrupted and what was committed but never started."""
        self._path.touch(mode=0o600)
        config: DBOSConfig = {
            "name": "gatehouse",
            "system_database_url": URL.create("sqlite", database=str(self._path)).render_as_string(),
            "serializer": DBOSPortableJSONSerializer(),
            "application_version": STEPS_VERSION,
            "executor_id": "local",
            "max_executor_threads": THREADS,
            "log_level": "WARNING",
            "enable_otlp": False,
        }
        DBOS(config=config)

        # DBOS marks the function that it is given, which a bound method does not allow
        def job(name: str, job_id: str, arguments: dict[str, Any]) -> None:
            self._job(name, job_id, arguments)

        self._run = DBOS.workflow(name="job")(job)
        DBOS.launch()
        with self.core.database.reading() as session:
            unfinished = [(job.id, job.workflow or {}) for job in jobs.unfinished_workflows(session)]
        for job_id, workflow in unfinished:
            self.start(workflow["name"], job_id, workflow["arguments"])

    def close(self) -> None:
        """Stop. Workflows under way are left as they are, for the next start."""
        DBOS.destroy(destroy_registry=True)
        self._run = None

    def start(self, name: str, job_id: str, arguments: dict[str, Any]) -> None:
        """Begin workflow ``name`` for a job; nothing happens when it has begun already."""
        if name not in WORKFLOWS:
            raise ValueError(f"there is no workflow {name}")
        assert self._run is not None, "open() comes first"
        with SetWorkflowID(job_id):
            DBOS.start_workflow(self._run, name, job_id, arguments)

    def _job(self, name: str, job_id: str, arguments: dict[str, Any]) -> None:
        """The DBOS workflow: run ours, then end the job with its outcome. Never fails itself."""

        def run_step(step: str, function: Callable[[], Any]) -> Any:
            return DBOS.run_step({"name": step}, function)

        flow = Flow(self.core, self.reconciler, self.locks, job_id, run_step)
        flow.step("begin", _begin)
        log.info("job %s: %s %s", job_id, name, arguments)
        begun = time.monotonic()
        failure = None
        try:
            WORKFLOWS[name](flow, **arguments)
        except ApiError as error:
            failure = {"text": error.text, "code": error.code, "cs_code": error.cs_code}
        except Exception as error:
            # e.g. steps of another version of this program that do not fit
            log.exception("workflow %s of job %s", name, job_id)
            failure = {"text": f"internal error: {error}; try again", "code": ApiError.code, "cs_code": 9999}
        flow.step("end", _end, failure)
        outcome = f"failed: {failure['text']}" if failure else "done"
        log.info("job %s: %s %s after %.2f s", job_id, name, outcome, time.monotonic() - begun)


def _begin(flow: Flow) -> None:
    with flow.core.database.transaction() as session:
        job = session.get(AsyncJob, flow.job_id)
        if job is not None:
            jobs.started(session, job)


def _end(flow: Flow, failure: dict[str, Any] | None) -> None:
    with flow.core.database.transaction() as session:
        job = session.get(AsyncJob, flow.job_id)
        if job is None:
            return
        if failure is None:
            try:
                with session.begin_nested():
                    jobs.succeed(session, job)
                return
            except Exception as error:
                log.exception("job %s (%s) could not be completed", job.id, job.command)
                session.refresh(job)
                failure = {"text": f"it was done, but recording it failed: {error}", "code": 530, "cs_code": 9999}
        jobs.fail(session, job, ApiError(failure["text"], code=failure["code"], cs_code=failure["cs_code"]))
