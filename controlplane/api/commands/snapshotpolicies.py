"""Policies that make snapshots by themselves (guide: chapter 13.5.2)."""

from __future__ import annotations

from zoneinfo import ZoneInfo

from sqlalchemy import select

from controlplane.api import listing
from controlplane.api.call import Call
from controlplane.api.command import ListParams, Params, Success, command, param
from controlplane.api.views.snapshots import SnapshotPolicyResponse, show_policies
from controlplane.errors import ParameterError, unknown_id
from controlplane.storage.schedule import INTERVALS, parse
from controlplane.storage.settings import KEPT
from controlplane.store.models import SnapshotPolicy, Volume, now
from controlplane.timezones import zone


class CreateSnapshotPolicy(Params):
    volumeid: str = param("the ID of the disk volume", entity="Volume")
    intervaltype: str = param("HOURLY, DAILY, WEEKLY or MONTHLY", choices=INTERVALS)
    schedule: str = param("mm, mm:hh, mm:hh:day of the week (1 is Sunday), or mm:hh:day of the month (1 to 28)")
    timezone: str = param("the time zone of the schedule, such as Europe/Berlin")
    maxsnaps: int = param("how many of its snapshots are kept", minimum=1)
    fordisplay: bool = param("show the policy to the volume's owner", default=True)


@command(
    "createSnapshotPolicy",
    description="Creates a snapshot policy for a volume, or changes the one with that interval",
    params=CreateSnapshotPolicy,
    response=SnapshotPolicyResponse,
    object_name="snapshotpolicy",
    event="SNAPSHOTPOLICY.CREATE",
)
def create_snapshot_policy(call: Call, params: CreateSnapshotPolicy) -> SnapshotPolicyResponse:
    volume = call.lookup(Volume, params.volumeid, "volumeid")
    if volume.state in ("Destroy", "Expunging", "Expunged"):
        raise ParameterError(f"volumeid: volume {volume.name} is {volume.state}")
    statement = select(SnapshotPolicy).where(
        SnapshotPolicy.volume_id == volume.id, SnapshotPolicy.interval == params.intervaltype
    )
    found = call.session.scalars(statement).one_or_none()
    row = found or SnapshotPolicy(volume_id=volume.id, interval=params.intervaltype)
    row.max_snaps = _kept(call, params.intervaltype, params.maxsnaps)
    row.for_display = params.fordisplay
    _set_schedule(row, params.schedule, params.timezone)
    call.session.add(row)
    call.session.flush()
    text = f"policy of {row.interval.lower()} snapshots of volume {volume.name}: {row.schedule} {row.timezone}"
    call.event(text, ("Volume", volume.id), account_id=volume.account_id)
    return show_policies([row])[0]


def _kept(call: Call, interval: str, wanted: int) -> int:
    most = call.configuration.get_int(call.session, KEPT[interval])
    if wanted > most:
        allowed = f"{KEPT[interval]} is {most}" if most else f"there are none while {KEPT[interval]} is 0"
        raise ParameterError(f"maxsnaps: {wanted} {interval.lower()} snapshots cannot be kept, {allowed}")
    return wanted


def _zone(name: str) -> ZoneInfo:
    try:
        return zone(name)
    except ValueError as error:
        raise ParameterError(f"timezone: {error}; give a name such as Europe/Berlin") from None


def _set_schedule(row: SnapshotPolicy, schedule: str, timezone: str) -> None:
    try:
        parsed = parse(row.interval, schedule, _zone(timezone))
    except ValueError as error:
        raise ParameterError(f"schedule: {error}") from None
    row.schedule, row.timezone, row.next_run = schedule, timezone, parsed.next_after(now())


class ListSnapshotPolicies(ListParams):
    volumeid: str | None = param("the ID of the disk volume", default=None, entity="Volume")
    id: str | None = param("the ID of the snapshot policy", default=None, entity="SnapshotPolicy")


@command(
    "listSnapshotPolicies",
    description="Lists snapshot policies.",
    params=ListSnapshotPolicies,
    response=SnapshotPolicyResponse,
    object_name="snapshotpolicy",
)
def list_snapshot_policies(call: Call, params: ListSnapshotPolicies) -> tuple[int, list[SnapshotPolicyResponse]]:
    statement = select(SnapshotPolicy).order_by(SnapshotPolicy.created, SnapshotPolicy.id)
    if params.volumeid is not None:
        statement = statement.where(SnapshotPolicy.volume_id == call.lookup(Volume, params.volumeid, "volumeid").id)
    elif params.id is not None:
        statement = statement.where(SnapshotPolicy.id == _find(call, params.id).id)
    else:
        raise ParameterError("volumeid: say of which volume")
    if not call.is_root:
        statement = statement.where(SnapshotPolicy.for_display)
    return listing.fetch(call, statement, params, show_policies)


def _find(call: Call, id: str) -> SnapshotPolicy:
    """A policy of a volume that the caller may use."""
    row = call.session.get(SnapshotPolicy, id)
    if row is None:
        raise unknown_id("id", id)
    call.check_account(row.volume.account)
    return row


class UpdateSnapshotPolicy(Params):
    id: str = param("the ID of the snapshot policy", entity="SnapshotPolicy")
    schedule: str | None = param("its new schedule", default=None)
    timezone: str | None = param("its new time zone", default=None)
    maxsnaps: int | None = param("how many of its snapshots are kept from now on", default=None, minimum=1)
    fordisplay: bool | None = param("show it to the volume's owner", default=None)


@command(
    "updateSnapshotPolicy",
    description="Changes a snapshot policy",
    params=UpdateSnapshotPolicy,
    response=SnapshotPolicyResponse,
    object_name="snapshotpolicy",
    event="SNAPSHOTPOLICY.UPDATE",
)
def update_snapshot_policy(call: Call, params: UpdateSnapshotPolicy) -> SnapshotPolicyResponse:
    row = _find(call, params.id)
    if params.maxsnaps is not None:
        row.max_snaps = _kept(call, row.interval, params.maxsnaps)
    if params.fordisplay is not None:
        row.for_display = params.fordisplay
    if params.schedule is not None or params.timezone is not None:
        _set_schedule(row, params.schedule or row.schedule, params.timezone or row.timezone)
    call.session.flush()
    text = f"updated policy of {row.interval.lower()} snapshots of volume {row.volume.name}"
    call.event(text, ("Volume", row.volume_id), account_id=row.volume.account_id)
    return show_policies([row])[0]


class DeleteSnapshotPolicies(Params):
    id: str | None = param("the ID of the snapshot policy", default=None, entity="SnapshotPolicy")
    ids: list[str] | None = param("IDs of snapshot policies", default=None)


@command(
    "deleteSnapshotPolicies",
    description="Deletes snapshot policies; their snapshots stay",
    params=DeleteSnapshotPolicies,
    event="SNAPSHOTPOLICY.DELETE",
)
def delete_snapshot_policies(call: Call, params: DeleteSnapshotPolicies) -> Success:
    wanted = [*([params.id] if params.id else []), *(params.ids or [])]
    if not wanted:
        raise ParameterError("id: say which policies to delete")
    for row in [_find(call, id) for id in dict.fromkeys(wanted)]:
        text = f"deleted policy of {row.interval.lower()} snapshots of volume {row.volume.name}"
        call.event(text, ("Volume", row.volume_id), account_id=row.volume.account_id)
        call.session.delete(row)
    return Success()
