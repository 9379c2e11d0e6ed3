"""Usage records, for billing (guide: chapter 14)."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import delete, select

from controlplane.api import listing
from controlplane.api.call import Call
from controlplane.api.command import (
    ROOT,
    Nothing,
    Params,
    Response,
    ScopedListParams,
    Success,
    command,
    param,
    shown,
)
from controlplane.api.listing import OwnedResponse, owned_by
from controlplane.errors import ParameterError
from controlplane.store.models import Account, UsageRecord, now
from controlplane.usage import aggregation
from controlplane.usage.types import UsageType


class UsageTypeResponse(Response):
    usagetypeid: int = shown("Usage type ID", ...)
    name: str = shown("Usage type name", ...)
    description: str = shown("description of usage type", ...)


@command(
    "listUsageTypes",
    description="List Usage Types",
    params=Nothing,
    response=UsageTypeResponse,
    object_name="usagetype",
)
def list_usage_types(call: Call, params: Nothing) -> tuple[int, list[UsageTypeResponse]]:
    found = [
        UsageTypeResponse(usagetypeid=int(kind), name=kind.name, description=kind.description) for kind in UsageType
    ]
    return len(found), found


class UsageRecordResponse(OwnedResponse):
    accountid: str = shown("the user account Id", ...)
    zoneid: str = shown("the zone ID", ...)
    description: str = shown("description of the usage record", ...)
    usage: str = shown("usage in hours, or in bytes", ...)
    usagetype: int = shown("usage type ID", ...)
    rawusage: str = shown("raw usage in hours, or in bytes", ...)
    virtualmachineid: str | None = shown("virtual machine ID")
    name: str | None = shown("resource or virtual machine name")
    offeringid: str | None = shown("offering ID")
    templateid: str | None = shown("template ID")
    usageid: str = shown("id of the resource", ...)
    type: str | None = shown("resource type")
    size: int | None = shown("resource size in bytes")
    virtualsize: int | None = shown("virtual size of resource in bytes")
    cpunumber: int | None = shown("number of cpu of resource")
    cpuspeed: int | None = shown("speed of each cpu of resource")
    memory: int | None = shown("memory allocated for the resource")
    startdate: str = shown("start date of the usage record", ...)
    enddate: str = shown("end date of the usage record", ...)
    issourcenat: bool | None = shown("True if the IPAddress is source NAT")
    issystem: bool | None = shown("True if the IPAddress is system IP - allocated during vm deploy or lb rule create")
    isdefault: bool | None = shown("True if the resource is default")
    networkid: str | None = shown("id of the network")
    publicipid: str | None = shown("id of the public address that the record is about")


class ListUsageRecords(ScopedListParams):
    startdate: datetime = param("Start date range for usage record query (a date alone begins at midnight).")
    enddate: datetime = param("End date range for usage record query (a date alone is that whole day).")
    type: int | None = param("List usage records for the specified usage type", default=None)
    usageid: str | None = param("List usage records for the specified usage UUID. Can be used with type", default=None)
    accountid: str | None = param("List usage records for the specified account", default=None, entity="Account")


@command(
    "listUsageRecords",
    description="Lists usage records for accounts",
    params=ListUsageRecords,
    response=UsageRecordResponse,
    object_name="usagerecord",
)
def list_usage_records(call: Call, params: ListUsageRecords) -> tuple[int, list[UsageRecordResponse]]:
    zone = aggregation.schedule_of(call.session, call.configuration).days
    start, end = _local(params.startdate, zone), _until(params.enddate, zone)
    if end < start:
        raise ParameterError("enddate: it must not be before startdate")
    # a record is listed when all of its time is asked for, so that two questions never get the same one twice
    statement = select(UsageRecord).where(UsageRecord.start >= start, UsageRecord.end <= end)
    # as in the established system: administrators see everybody's unless they name somebody
    accounts = listing.accounts_in_scope(call, params, everything=True)
    if accounts is not None:
        statement = statement.where(UsageRecord.account_id.in_(accounts))
    if params.accountid is not None:
        account = call.lookup(Account, params.accountid, "accountid")
        statement = statement.where(UsageRecord.account_id == account.id)
    if params.type is not None:
        if params.type not in list(UsageType):
            raise ParameterError("type: listUsageTypes has the usage types")
        statement = statement.where(UsageRecord.usage_type == params.type)
    if params.usageid is not None:
        statement = statement.where(UsageRecord.usage_id == params.usageid)
    statement = statement.order_by(UsageRecord.start, UsageRecord.usage_type, UsageRecord.id)
    return listing.fetch(call, statement, params, lambda rows: [_record(call, row, zone) for row in rows])


def _local(moment: datetime, zone: Any) -> datetime:
    """A date alone is one of the days that records are of."""
    if (moment.hour, moment.minute, moment.second) == (0, 0, 0):
        return moment.replace(tzinfo=zone)
    return moment


def _until(moment: datetime, zone: Any) -> datetime:
    local = _local(moment, zone)
    return local if local is moment else datetime.combine(local.date() + timedelta(days=1), local.timetz())


def _record(call: Call, row: UsageRecord, zone: Any) -> UsageRecordResponse:
    kind, details = UsageType(row.usage_type), row.details
    if kind.in_bytes:
        raw = str(int(row.raw_usage))
        usage = f"{raw} bytes {'sent' if kind == UsageType.NETWORK_BYTES_SENT else 'received'}"
    else:
        raw = f"{row.raw_usage:.9f}".rstrip("0").rstrip(".")
        usage = f"{row.raw_usage:.6f}".rstrip("0").rstrip(".") + " Hrs"
    return UsageRecordResponse(
        accountid=row.account_id,
        zoneid=row.zone_id,
        description=row.description,
        usage=usage,
        usagetype=row.usage_type,
        rawusage=raw,
        virtualmachineid=details.get("vm_id"),
        name=details.get("name"),
        offeringid=details.get("offering_id"),
        templateid=details.get("template_id"),
        usageid=row.usage_id,
        type=details.get("type"),
        size=details.get("size"),
        virtualsize=details.get("virtual_size"),
        cpunumber=details.get("cpu_number"),
        cpuspeed=details.get("cpu_speed"),
        memory=details.get("memory"),
        startdate=row.start.astimezone(zone).isoformat(timespec="seconds"),
        enddate=row.end.astimezone(zone).isoformat(timespec="seconds"),
        issourcenat=details.get("source_nat"),
        issystem=details.get("system"),
        isdefault=details.get("is_default"),
        networkid=details.get("network_id"),
        publicipid=details.get("public_ip_id"),
        **owned_by(call.session.get_one(Account, row.account_id)),
    )


class GenerateUsageRecords(Params):
    startdate: datetime | None = param(
        "accepted for clients that send it: records begin where those made last ended", default=None
    )
    enddate: datetime | None = param(
        "make the records of all time until then (a date alone is that whole day), at most until now", default=None
    )
    domainid: str | None = param(
        "accepted for clients that send it: records are made of everybody", default=None, entity="Domain"
    )


@command(
    "generateUsageRecords",
    description="Makes usage records of all time since the last ones, before the usage job does",
    params=GenerateUsageRecords,
    roles=ROOT,
    event="USAGE.RECORDS.GENERATE",
)
def generate_usage_records(call: Call, params: GenerateUsageRecords) -> Success:
    if not call.configuration.get_bool(call.session, aggregation.ENABLED):
        raise ParameterError(f"usage records are off; set {aggregation.ENABLED} to true")
    schedule = aggregation.schedule_of(call.session, call.configuration)
    moment = now()
    if params.enddate is not None:
        moment = min(moment, _until(params.enddate, schedule.days))
    count = 0
    while (job := aggregation.make_until(call.session, schedule, moment)) is not None:
        count += job.records
    call.event(f"Successfully generated {count} usage records")
    return Success()


class RemoveRawUsageRecords(Params):
    interval: int = param("remove usage records that are older than this number of days", minimum=1)


@command(
    "removeRawUsageRecords",
    description="Removes usage records that are older than a number of days",
    params=RemoveRawUsageRecords,
    roles=ROOT,
    event="USAGE.RECORDS.REMOVE",
)
def remove_raw_usage_records(call: Call, params: RemoveRawUsageRecords) -> Success:
    before = now() - timedelta(days=min(params.interval, 36_500))
    call.session.execute(delete(UsageRecord).where(UsageRecord.end < before))
    call.event(f"Successfully removed usage records from before {before:%Y-%m-%d %H:%M}")
    return Success()
