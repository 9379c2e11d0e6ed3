"""Asynchronous jobs: how far they are and what came of them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import select

from controlplane.api import listing
from controlplane.api.call import Call
from controlplane.api.command import Params, Response, ScopedListParams, command, param, shown
from controlplane.jobs import PENDING
from controlplane.store.models import Account, AsyncJob


class JobResponse(Response):
    jobid: str = shown("the UUID of the asynchronous job", ...)
    accountid: str = shown("the account id that executed the async command", ...)
    account: str | None = shown("the account that executed the async command")
    domainid: str | None = shown("the domain id that executed the async command")
    userid: str = shown("the user that executed the async command", ...)
    cmd: str = shown("the async command executed", ...)
    jobstatus: int = shown("the current job status: 0 pending, 1 succeeded, 2 failed", ...)
    jobprocstatus: int = shown("the progress information of the PENDING job", ...)
    jobresultcode: int = shown("the result code for the job", ...)
    jobresulttype: str | None = shown("the result type")
    jobresult: dict[str, Any] | None = shown("the result reason")
    jobinstancetype: str | None = shown("the instance/entity object related to the job")
    jobinstanceid: str | None = shown("the unique ID of the instance/entity object related to the job")
    progress: str | None = shown("why a pending job is not done yet, in words")
    created: datetime = shown("the created date of the job", ...)
    completed: datetime | None = shown("the completed date of the job")


def _job(call: Call, job: AsyncJob) -> JobResponse:
    account = call.session.get_one(Account, job.account_id)
    done = job.status != PENDING
    return JobResponse(
        jobid=job.id,
        accountid=job.account_id,
        account=account.name,
        domainid=account.domain_id,
        userid=job.user_id,
        cmd=job.command,
        jobstatus=job.status,
        jobprocstatus=job.process_status,
        jobresultcode=job.result_code,
        jobresulttype="object" if done else None,
        jobresult=call.runtime.secrets.reveal(job.result) if done else None,
        jobinstancetype=job.instance_type,
        jobinstanceid=job.instance_id,
        progress=job.progress,
        created=job.created,
        completed=job.completed,
    )


class QueryJob(Params):
    jobid: str = param("the ID of the asynchronous job", entity="AsyncJob")


@command(
    "queryAsyncJobResult",
    description="Retrieves the current status of asynchronous job.",
    params=QueryJob,
    response=JobResponse,
)
def query_job(call: Call, params: QueryJob) -> JobResponse:
    return _job(call, call.lookup(AsyncJob, params.jobid, "jobid"))


class ListJobs(ScopedListParams):
    startdate: datetime | None = param("the start date of the async job", default=None)


@command(
    "listAsyncJobs",
    description="Lists all pending asynchronous jobs for the account, newest first, and those that have ended.",
    params=ListJobs,
    response=JobResponse,
    object_name="asyncjobs",
)
def list_jobs(call: Call, params: ListJobs) -> tuple[int, list[JobResponse]]:
    statement = listing.scope(call, select(AsyncJob), AsyncJob.account_id, params)
    if params.startdate is not None:
        statement = statement.where(AsyncJob.created >= params.startdate)
    statement = listing.search(statement, params.keyword, AsyncJob.command)
    statement = statement.order_by(AsyncJob.created.desc(), AsyncJob.id)
    return listing.fetch(call, statement, params, lambda rows: [_job(call, row) for row in rows])
