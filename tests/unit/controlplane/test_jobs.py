"""Jobs end once, with the right result and the right events."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from controlplane import jobs
from controlplane.api.command import Async, Success, commands
from controlplane.errors import CapacityError
from controlplane.store.defaults import ADMIN_USER_ID
from controlplane.store.models import Appliance, AsyncJob, Event, User, Zone
from tests.control import FakeRuntime

COMMAND = commands()["createphysicalnetwork"]


@pytest.fixture
def session(runtime: FakeRuntime) -> Iterator[Session]:
    with runtime.database.transaction() as opened:
        yield opened


def _job(session: Session, answer: Async) -> AsyncJob:
    user = session.get_one(User, ADMIN_USER_ID)
    return jobs.create(session, COMMAND, answer, user=user, account=user.account)


def _events(session: Session) -> list[tuple[str, str, str]]:
    rows = session.scalars(select(Event).where(Event.type == COMMAND.event).order_by(Event.created))
    return [(row.state, row.level, row.description) for row in rows]


def test_with_nothing_left_to_do_it_ends_at_once(session: Session) -> None:
    job = _job(session, Async("PhysicalNetwork", "x", "creating x"))
    assert (job.status, job.result_code, job.result) == (jobs.SUCCEEDED, 0, {"success": True})
    assert job.completed is not None
    assert _events(session) == [
        ("Scheduled", "INFO", "creating x"),
        ("Completed", "INFO", "Successfully completed creating x"),
    ]


def test_a_target_is_waited_for(session: Session) -> None:
    zone = session.scalars(select(Zone.id)).one()
    for name in ("a", "b"):
        session.add(Appliance(id=name, role="router", name=name, zone_id=zone, control_address=name))
    session.flush()
    first, second = (_job(session, Async(None, None, target=("a", generation))) for generation in (3, 4))
    assert (first.status, second.status) == (jobs.PENDING, jobs.PENDING)
    assert jobs.reached(session, "a", 2) == []
    assert jobs.reached(session, "b", 9) == []
    assert jobs.reached(session, "a", 3) == [first]
    jobs.succeed(session, first)
    assert jobs.reached(session, "a", 9) == [second]


def test_a_workflow_is_remembered_until_it_ends(session: Session) -> None:
    job = _job(session, Async("VirtualMachine", "v", workflow="deploy_vm", arguments={"vm": "v"}))
    assert job.workflow == {"name": "deploy_vm", "arguments": {"vm": "v"}}
    assert jobs.unfinished_workflows(session) == [job]
    jobs.succeed(session, job, Success())
    assert jobs.unfinished_workflows(session) == []


def test_a_failure_tells_why(session: Session) -> None:
    job = _job(session, Async("PhysicalNetwork", "x", "creating x", workflow="w"))
    jobs.fail(session, job, CapacityError("no address is free"))
    assert (job.status, job.result_code) == (jobs.FAILED, 533)
    assert job.result == {"errorcode": 533, "errortext": "no address is free"}
    assert _events(session)[-1] == ("Completed", "ERROR", "Error while creating x: no address is free")


def test_it_ends_only_once(session: Session) -> None:
    job = _job(session, Async("PhysicalNetwork", "x", "creating x", workflow="w"))
    jobs.fail(session, job, CapacityError("first"))
    jobs.succeed(session, job)
    jobs.fail(session, job, CapacityError("second"))
    assert job.result == {"errorcode": 533, "errortext": "first"}
    assert len(_events(session)) == 2


def test_events_of_one_job_belong_together(session: Session) -> None:
    job = _job(session, Async("PhysicalNetwork", "x", "creating x", workflow="w"))
    jobs.succeed(session, job)
    begun, ended = session.scalars(select(Event).where(Event.type == COMMAND.event).order_by(Event.created))
    assert (begun.start_event_id, ended.start_event_id) == (None, begun.id)
    assert ended.resource_id == "x"
