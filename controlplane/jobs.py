"""API jobs: made in the transaction that changes rows, ended when the world has followed.

A job with ``appliance_id`` and ``generation`` is ended by the reconciler, one with ``workflow`` by its workflow, one
with neither at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from controlplane import events
from controlplane.api.command import Async, Command, Response, Success, commands
from controlplane.api.encode import plain
from controlplane.errors import ApiError
from controlplane.store.models import Account, AsyncJob, Event, User, now

if TYPE_CHECKING:
    from controlplane.events import Level

PENDING, SUCCEEDED, FAILED = 0, 1, 2

#: ``completion(session, job, **arguments)`` returns what the job answers.
Completion = Callable[..., Response]
_completions: dict[str, Completion] = {}
#: ``reversal(session, job, **arguments)`` takes back the rows that the job was for.
Reversal = Callable[..., None]
_reversals: dict[str, Reversal] = {}


def completion(name: str) -> Callable[[Completion], Completion]:
    """Register what a job does in the transaction that ends it well: ``function(session, job, **arguments)``.

    It returns the response object of the job's command (or ``Success``). ``arguments`` are those of ``Async``.
    """

    def register(function: Completion) -> Completion:
        if name in _completions:
            raise ValueError(f"completion {name} is registered twice")
        _completions[name] = function
        return function

    return register


def reversal(name: str) -> Callable[[Reversal], Reversal]:
    """Register what takes back the rows of a job that ends with an error: ``function(session, job, **arguments)``.

    ``name`` is that of the completion that would have run. Without it a rule that the router refused would stay
    in every later document, and block it.
    """

    def register(function: Reversal) -> Reversal:
        if name in _reversals:
            raise ValueError(f"reversal {name} is registered twice")
        _reversals[name] = function
        return function

    return register


def create(session: Session, command: Command, answer: Async, *, user: User, account: Account) -> AsyncJob:
    """Add the job of an asynchronous command to the caller's transaction, ended already when nothing is left to do."""
    appliance_id, generation = answer.target or (None, None)
    arguments = answer.arguments if answer.completion_arguments is None else answer.completion_arguments
    job = AsyncJob(
        command=command.name,
        user_id=user.id,
        account_id=account.id,
        instance_type=answer.instance_type,
        instance_id=answer.instance_id,
        appliance_id=appliance_id,
        generation=generation,
        workflow={"name": answer.workflow, "arguments": dict(answer.arguments)} if answer.workflow else None,
        completion={"name": answer.completion, "arguments": dict(arguments)} if answer.completion else None,
        description=answer.description,
    )
    session.add(job)
    session.flush()
    job.event_id = _event(session, job, "INFO", "Scheduled", answer.description, type=answer.event)
    if answer.workflow is None and answer.target is None:
        succeed(session, job)
    return job


def started(session: Session, job: AsyncJob) -> None:
    """Record that a job's workflow has begun."""
    if job.status == PENDING:
        _event(session, job, "INFO", "Started", job.description)


def succeed(session: Session, job: AsyncJob, result: Response | None = None) -> None:
    """End a job well in the caller's transaction: run its completion, keep the result, record the event.

    ``result`` is answered when the job has no completion. A job that has ended is left alone, so that a workflow step
    that runs a second time does no harm.
    """
    if job.status != PENDING:
        return
    declared = commands().get(job.command.lower())
    if job.completion is not None:
        function = _completions[job.completion["name"]]
        result = function(session, job, **job.completion["arguments"])
    result = result or Success()
    body = plain(result)
    if declared is not None and declared.object_name and not isinstance(result, Success):
        body = {declared.object_name: body}
    _end(session, job, SUCCEEDED, 0, body)
    _event(session, job, "INFO", "Completed", f"Successfully completed {job.description}")


def fail(session: Session, job: AsyncJob, error: ApiError) -> None:
    """End a job with an error in the caller's transaction and take back its rows. One that has ended is left alone."""
    if job.status != PENDING:
        return
    if job.completion is not None and (reverse := _reversals.get(job.completion["name"])) is not None:
        reverse(session, job, **job.completion["arguments"])
    _end(session, job, FAILED, error.code, {"errorcode": error.code, "errortext": error.text})
    _event(session, job, "ERROR", "Completed", f"Error while {job.description}: {error.text}")


def reached(session: Session, appliance_id: str, generation: int) -> list[AsyncJob]:
    """Pending jobs that an appliance's having observed ``generation`` ends, oldest first."""
    statement = select(AsyncJob).where(
        AsyncJob.appliance_id == appliance_id, AsyncJob.status == PENDING, AsyncJob.generation <= generation
    )
    return list(session.scalars(statement.order_by(AsyncJob.created, AsyncJob.id)))


def unfinished_workflows(session: Session) -> list[AsyncJob]:
    """Pending jobs that a workflow ends; on start-up each is started again under its job id, which is harmless."""
    statement = select(AsyncJob).where(AsyncJob.status == PENDING, AsyncJob.workflow.is_not(None))
    return list(session.scalars(statement.order_by(AsyncJob.created, AsyncJob.id)))


def _end(session: Session, job: AsyncJob, status: int, code: int, result: Mapping[str, Any]) -> None:
    job.status, job.result_code, job.result = status, code, dict(result)
    job.completed, job.progress = now(), None
    session.flush()


def _event(
    session: Session, job: AsyncJob, level: Level, state: events.State, description: str, *, type: str | None = None
) -> str | None:
    declared = commands().get(job.command.lower())
    if declared is None or declared.event is None:
        return None
    first = session.get(Event, job.event_id) if job.event_id is not None else None
    event = events.record(
        session,
        first.type if first is not None else type or declared.event,
        description,
        account_id=job.account_id,
        user_id=job.user_id,
        level=level,
        state=state,
        resource=(job.instance_type, job.instance_id) if job.instance_type and job.instance_id else None,
        start_event_id=job.event_id,
    )
    return event.id
