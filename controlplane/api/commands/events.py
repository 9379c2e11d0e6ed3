"""Events: reading, archiving and deleting the record of what happened."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ColumnElement, select

from controlplane.api import listing
from controlplane.api.call import Call
from controlplane.api.command import (
    Nothing,
    Params,
    Response,
    ScopedListParams,
    Success,
    command,
    commands,
    param,
    shown,
)
from controlplane.api.listing import OwnedResponse, owned_by
from controlplane.errors import ParameterError
from controlplane.events import SYSTEM_EVENTS
from controlplane.store.models import Account, Event, User


class EventResponse(OwnedResponse):
    id: str = shown("the ID of the event", ...)
    type: str = shown("the type of the event (see event types)", ...)
    level: str = shown("the event level (INFO, WARN, ERROR)", ...)
    state: str = shown("the state of the event", ...)
    description: str = shown("a brief description of the event", ...)
    username: str | None = shown("the name of the user who performed the action")
    parentid: str | None = shown("whether the event is parented: the event that began what this one continues")
    resourcetype: str | None = shown("the type of the resource associated with the event")
    resourceid: str | None = shown("the id of the resource associated with the event")
    archived: bool = shown("whether the event has been archived or not", ...)
    created: datetime = shown("the date the event was created", ...)


def _events(call: Call, rows: list[Event]) -> list[EventResponse]:
    session = call.session
    answers = []
    for row in rows:
        user = session.get(User, row.user_id) if row.user_id is not None else None
        answers.append(
            EventResponse(
                id=row.id,
                type=row.type,
                level=row.level,
                state=row.state,
                description=row.description,
                username=user.username if user is not None else None,
                parentid=row.start_event_id,
                resourcetype=row.resource_type,
                resourceid=row.resource_id,
                archived=row.archived,
                created=row.created,
                **owned_by(session.get_one(Account, row.account_id)),
            )
        )
    return answers


class ListEvents(ScopedListParams):
    id: str | None = param("the ID of the event", default=None, entity="Event")
    type: str | None = param("the event type (see event types)", default=None)
    level: str | None = param("the event level (INFO, WARN, ERROR)", default=None, choices=("INFO", "WARN", "ERROR"))
    state: str | None = param("the state of the event", default=None)
    startdate: datetime | None = param("the start date range of the list you want to retrieve", default=None)
    enddate: datetime | None = param("the end date range of the list you want to retrieve", default=None)
    startid: str | None = param("the parent/start ID of the event", default=None, entity="Event")
    resourceid: str | None = param("the ID of the resource associated with the event", default=None)
    resourcetype: str | None = param("the type of the resource associated with the event", default=None)
    archived: bool = param("true to list archived events also", default=False)


@command(
    "listEvents",
    description="A command to list events, the newest first.",
    params=ListEvents,
    response=EventResponse,
    object_name="event",
)
def list_events(call: Call, params: ListEvents) -> tuple[int, list[EventResponse]]:
    by_id = params.id is not None or params.startid is not None or params.resourceid is not None
    statement = listing.scope(call, select(Event), Event.account_id, params, by_id=by_id)
    if params.id is not None:
        statement = statement.where(Event.id == call.lookup(Event, params.id).id)
    if params.startid is not None:
        start = call.lookup(Event, params.startid, "startid").id
        statement = statement.where((Event.id == start) | (Event.start_event_id == start))
    for column, value in (
        (Event.type, params.type and params.type.upper()),
        (Event.level, params.level),
        (Event.state, params.state and params.state.capitalize()),
        (Event.resource_id, params.resourceid),
        (Event.resource_type, params.resourcetype),
    ):
        if value is not None:
            statement = statement.where(column == value)
    if not params.archived:
        statement = statement.where(Event.archived.is_(False))
    for condition in _between(params.startdate, params.enddate):
        statement = statement.where(condition)
    statement = listing.search(statement, params.keyword, Event.type, Event.description, Event.level)
    statement = statement.order_by(Event.created.desc(), Event.id)
    return listing.fetch(call, statement, params, lambda rows: _events(call, rows))


def _between(start: datetime | None, end: datetime | None) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = []
    if start is not None:
        found.append(Event.created >= start)
    if end is not None:
        # a date alone means that whole day
        last = end.replace(hour=23, minute=59, second=59) if (end.hour, end.minute, end.second) == (0, 0, 0) else end
        found.append(Event.created <= last.replace(microsecond=999_999))
    return found


class ChooseEvents(Params):
    ids: list[str] | None = param("the IDs of the events", default=None)
    type: str | None = param("by event type", default=None)
    startdate: datetime | None = param("start date range to choose events by (including)", default=None)
    enddate: datetime | None = param("end date range to choose events by (including)", default=None)


def _chosen(call: Call, params: ChooseEvents) -> list[Event]:
    """Events of the caller's account (or that it administers, with ids). ParameterError when nothing chooses them."""
    if params.ids:
        return [call.lookup(Event, event_id, "ids") for event_id in params.ids]
    if params.type is None and params.startdate is None and params.enddate is None:
        raise ParameterError("Either ids, type, startdate or enddate must be specified")
    statement = select(Event).where(Event.account_id == call.account.id, *_between(params.startdate, params.enddate))
    if params.type is not None:
        statement = statement.where(Event.type == params.type.upper())
    return list(call.session.scalars(statement))


@command("archiveEvents", description="Archive one or more events.", params=ChooseEvents)
def archive_events(call: Call, params: ChooseEvents) -> Success:
    for event in _chosen(call, params):
        event.archived = True
    return Success()


@command("deleteEvents", description="Delete one or more events.", params=ChooseEvents)
def delete_events(call: Call, params: ChooseEvents) -> Success:
    for event in _chosen(call, params):
        call.session.delete(event)
    return Success()


class EventTypeResponse(Response):
    name: str = shown("Event Type", ...)


@command(
    "listEventTypes",
    description="List Event Types",
    params=Nothing,
    response=EventTypeResponse,
    object_name="eventtype",
)
def list_event_types(call: Call, params: Nothing) -> tuple[int, list[EventTypeResponse]]:
    declared = {item.event for item in commands().values() if item.event is not None}
    names = sorted(declared | SYSTEM_EVENTS.keys())
    return len(names), [EventTypeResponse(name=name) for name in names]
