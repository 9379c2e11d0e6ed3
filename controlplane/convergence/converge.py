"""One pass over one appliance: compile the newest document, push it, take in the outcome, end the jobs it ends."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from sqlalchemy.orm import Session

from appliance.garbage import uncollected
from appliance.schema.status import Problem, Status
from controlplane import jobs
from controlplane.appliances import machines
from controlplane.convergence import blame, observe
from controlplane.convergence.collect import collect
from controlplane.convergence.compile.memo import CompileError, Memo
from controlplane.convergence.desired import desire
from controlplane.convergence.push import (
    AgentClient,
    AgentError,
    AgentUnreachableError,
    CertificateExpiredError,
    DocumentRefusedError,
    StaleDocumentError,
    describe,
)
from controlplane.convergence.roles import Intent, Role, role_of
from controlplane.core import Core
from controlplane.errors import ApiError, CapacityError
from controlplane.hypervisors.base import HypervisorError, Nic
from controlplane.network import segments
from controlplane.pki import due
from controlplane.store.models import Appliance, AsyncJob
from controlplane.usage import traffic

log = logging.getLogger(__name__)

#: seconds that one PUT waits for the outcome, and that a generation may take in all before it is tried again
PUSH_WAIT, PUSH_LIMIT = 15.0, 60.0
#: how often a refusal that nobody in particular is to blame for is tried before everybody who waits is told
STRIKES = 3


@dataclass(frozen=True)
class Refusal:
    """A generation that the appliance would not take. ``ids``: the entries named; empty when none was."""

    generation: int
    text: str
    ids: frozenset[str] = frozenset()
    #: it is not tried again for those who wait for this generation
    final: bool = False


@dataclass(frozen=True)
class Outcome:
    """How a pass ended.

    ``settled``: nothing left to do. ``again``: rows changed meanwhile, go on at once. ``retry``: try again later
    because of ``reason``. ``idle``: nothing is wanted of it. ``gone``: there is no such appliance any more.
    """

    kind: Literal["settled", "again", "retry", "idle", "gone"]
    observed: int = 0
    reason: str = ""
    refusal: Refusal | None = None
    #: the appliance is being booted, so it is worth asking again very soon
    booting: bool = False


@dataclass
class Remote:
    """What is kept between passes over one appliance. Used by one thread at a time."""

    id: str
    #: key of ``ROLES``
    role: str
    client: AgentClient
    memo: Memo = field(default_factory=Memo)
    #: NICs that were asked of the hypervisor since this process started
    plugged: bool = False
    #: generation that was refused without anyone to blame, and how often
    strikes: tuple[int, int] = (0, 0)
    #: when its traffic was collected last (monotonic)
    collected: float = float("-inf")


def open_remote(core: Core, appliance: Appliance) -> Remote:
    """The remote side of an appliance."""
    client = AgentClient(machines.agent_of(appliance), core.authority, core.hypervisor.connect)
    return Remote(appliance.id, appliance.role, client)


@dataclass(frozen=True)
class _Work:
    """What there is to do for one appliance."""

    #: the appliance in sentences, e.g. ``router r-7-VM``
    name: str
    role: Role
    booting: bool
    observed: int
    intent: Intent


def converge(core: Core, remote: Remote) -> Outcome:
    """Bring the appliance to its desired generation. What the appliance or hypervisor does wrong is in the outcome."""
    with uncollected():
        work = _look(core, remote)
    if isinstance(work, Outcome):
        return work
    document = b'{"state":{}}'
    try:
        intent = _plug(core, remote, work)
        with uncollected():
            document = work.role.compile(intent, remote.memo)
        return _reached(core, remote, _push(remote, document, intent.generation))
    except CompileError as error:
        problem = Problem(stage="parse", message=str(error))
        return _refused(core, remote, work.intent.generation, (problem,), document)
    except DocumentRefusedError as error:
        return _refused(core, remote, work.intent.generation, error.problems, document)
    except (AgentError, HypervisorError) as error:
        if not work.booting:
            _revive(core, remote.id)
        return Outcome("retry", work.observed, f"{work.name}: {error}", booting=work.booting)


def _look(core: Core, remote: Remote) -> _Work | Outcome:
    with core.database.reading() as session:
        appliance = session.get(Appliance, remote.id)
        if appliance is None or appliance.removed is not None:
            return Outcome("gone")
        observed = appliance.observed_generation
        if appliance.desired_state != "Running" or appliance.state in ("Stopped", "Stopping"):
            return Outcome("idle", observed)
        if appliance.desired_generation <= observed:
            return Outcome("settled", observed)
        role = role_of(appliance)
        intent = role.load(session, remote.id, core)
        return _Work(f"{role.label} {appliance.name}", role, appliance.state == "Starting", observed, intent)


def _plug(core: Core, remote: Remote, work: _Work) -> Intent:
    """See to it that the appliance has a NIC for each segment it has an address on; the intent with those NICs."""
    intent, add_nics = work.intent, work.role.add_nics
    missing = intent.segments - {nic.segment for nic in intent.nics}
    if missing and add_nics is not None:
        with core.database.transaction() as session:
            add_nics(session, session.get_one(Appliance, remote.id))
            intent = work.role.load(session, remote.id, core)
    if missing or not remote.plugged:
        # the others are there from the start
        later = [nic for nic in intent.nics if nic.role in ("public", "management")]
        with core.database.reading() as session:
            zone_id = session.get_one(Appliance, remote.id).zone_id
            wanted = [segments.of_nic(session, zone_id, nic._asdict()) for nic in later]
        for nic, segment in zip(later, wanted, strict=True):
            core.hypervisor.ensure_segment(segment)
            core.hypervisor.attach_nic(remote.id, Nic(mac=nic.mac, segment=nic.segment))
        remote.plugged = True
    return intent


def _push(remote: Remote, document: bytes, generation: int) -> Status:
    """Push and wait until the appliance has ``generation`` or a newer one.

    Raises DocumentRefusedError also for a document that was tried and rolled back, AgentUnreachableError when the
    outcome is not there in time.
    """
    deadline = time.monotonic() + PUSH_LIMIT
    try:
        status = _renewing(remote, lambda: remote.client.push(document, wait=PUSH_WAIT))
    except StaleDocumentError as error:
        status = remote.client.status()
        if status.generation < generation:
            raise AgentUnreachableError(str(error)) from error
    while _undecided(status, generation) and time.monotonic() < deadline:
        time.sleep(0.2)
        status = remote.client.status()
    if _undecided(status, generation):
        raise AgentUnreachableError(f"generation {generation} takes longer than {PUSH_LIMIT:.0f} s to apply")
    if status.generation < generation:
        raise DocumentRefusedError(status.attempt.problems if status.attempt else ())
    return status


def _undecided(status: Status, generation: int) -> bool:
    return status.generation < generation and (status.attempt is None or status.attempt.generation < generation)


def _renewing(remote: Remote, call: Callable[[], Status]) -> Status:
    """``call``, with a new certificate for the agent first if its own has ended while we were away."""
    try:
        return call()
    except CertificateExpiredError:
        remote.client.renew_certificate(remote.role)
        return call()


def _reached(core: Core, remote: Remote, status: Status) -> Outcome:
    with core.database.transaction() as session:
        appliance = session.get_one(Appliance, remote.id)
        observe.take_status(session, appliance, status)
        appliance.last_error = None
        if appliance.state == "Error":
            appliance.state = "Running"  # its start had failed, a later try did not
        end_jobs(session, appliance)
        observed, desired = appliance.observed_generation, appliance.desired_generation
    remote.strikes = (0, 0)
    return Outcome("again" if observed < desired else "settled", observed)


def end_jobs(session: Session, appliance: Appliance) -> None:
    """End the jobs whose generation the appliance has observed. A completion that fails ends its own job only."""
    for job in jobs.reached(session, appliance.id, appliance.observed_generation):
        try:
            with session.begin_nested():
                jobs.succeed(session, job)
        except Exception as error:
            log.exception("job %s (%s) could not be completed", job.id, job.command)
            jobs.fail(session, job, ApiError(f"the change is in place, but recording it failed: {error}"))


def _refused(core: Core, remote: Remote, generation: int, problems: tuple[Problem, ...], document: bytes) -> Outcome:
    """A document the appliance would not take: the change that is to blame is failed and taken back.

    When none is named it may be the appliance's trouble and pass: after some tries everybody who waits is told.
    """
    text = describe(problems) or "no reason was given"
    ids = blame.blamed_ids(problems, document)
    with core.database.transaction() as session:
        appliance = session.get_one(Appliance, remote.id)
        message = f"{role_of(appliance).label} {appliance.name} refused generation {generation}: {text}"
        log.warning("%s", message)
        waiting = jobs.reached(session, remote.id, generation)
        wide = blame.widen(session, ids)
        blamed = blame.culprits(waiting, wide)
        count = remote.strikes[1] + 1 if remote.strikes[0] == generation else 1
        remote.strikes = (generation, count)
        final = not blamed and count >= STRIKES
        if final:
            blamed = waiting
        for job in blamed:
            _fail(session, job, message)
        if blamed:
            desire(session, remote.id)
        elif count == STRIKES:
            observe.take_silence(session, appliance, message)
        if not blamed:
            observe.tell_progress(session, appliance, message)
        observed = appliance.observed_generation
    refusal = Refusal(generation, text, frozenset(wide), final)
    return Outcome("again" if blamed else "retry", observed, message, refusal)


def _fail(session: Session, job: AsyncJob, text: str) -> None:
    try:
        with session.begin_nested():
            jobs.fail(session, job, ApiError(text))
    except Exception:
        # without its reversal the rows stay, but the job must end
        log.exception("job %s (%s) could not be taken back", job.id, job.command)
        job.completion = None
        jobs.fail(session, job, ApiError(text))


def _revive(core: Core, appliance_id: str) -> None:
    """Start an appliance that should run and whose machine is gone (after a crash or a reboot of the host)."""
    try:
        if core.hypervisor.power(appliance_id) == "running":
            return
        with core.database.transaction() as session:
            appliance = session.get(Appliance, appliance_id)
            if appliance is None or appliance.removed is not None or appliance.desired_state != "Running":
                return
            machine = machines.placed(session, core.configuration, appliance)
        log.warning("%s %s is not running; starting it", machine.role, machine.name)
        machines.start(core.hypervisor, core.authority, machine)
    except (HypervisorError, CapacityError) as error:
        log.warning("appliance %s cannot be started: %s", appliance_id, error)


def poll(core: Core, remote: Remote) -> Outcome:
    """Ask an appliance how it is. ``again`` when it is behind what is desired, ``retry`` when it does not answer."""
    with core.database.reading() as session:
        appliance = session.get(Appliance, remote.id)
        if appliance is None or appliance.removed is not None:
            return Outcome("gone")
        if appliance.desired_state != "Running" or appliance.state != "Running":
            return Outcome("idle", appliance.observed_generation)
        interval = core.configuration.get_int(session, traffic.INTERVAL)
    try:
        status = _renewing(remote, remote.client.status)
        health = remote.client.health()
        if interval and time.monotonic() - remote.collected >= interval:
            collect(core, remote.client, remote.id)
            remote.collected = time.monotonic()
        _renew_early(remote)
    except AgentError as error:
        _revive(core, remote.id)
        return Outcome("retry", appliance.observed_generation, f"{role_of(appliance).label} {appliance.name}: {error}")
    if observe.has_news(appliance, status, health):
        with core.database.transaction() as session:
            appliance = session.get_one(Appliance, remote.id)
            observe.take_status(session, appliance, status)
            observe.take_health(session, appliance, health)
            end_jobs(session, appliance)
            session.flush()
            session.refresh(appliance)
    behind = appliance.observed_generation < appliance.desired_generation
    return Outcome("again" if behind else "settled", appliance.observed_generation)


def _renew_early(remote: Remote) -> None:
    certificate = remote.client.certificate()
    if certificate is not None and due(certificate):
        remote.client.renew_certificate(remote.role)
