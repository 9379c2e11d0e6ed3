"""Consoles as the API shows them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from sqlalchemy.orm import Session

from controlplane.api.command import Response, shown
from controlplane.api.listing import OwnedResponse, owned_by
from controlplane.api.starting import PAGE as STARTING_PAGE
from controlplane.console.endpoints import SOCKET, Endpoint, Starting
from controlplane.store.models import Account, ConsoleSession, Host, User, Vm
from controlplane.store.recordings import Recording, RecordingStore


class WebsocketResponse(Response):
    """The socket that a client of its own connects to."""

    token: str = shown("token of the session, good for one use", ...)
    host: str = shown("name or address of the console proxy", ...)
    port: str = shown("port of the console proxy", ...)
    path: str = shown("path of the socket", ...)
    extra: str | None = shown("a further token, where one is needed")


class ConsoleEndpointResponse(Response):
    """A console that was made ready."""

    success: bool = shown("whether the console is ready", ...)
    details: str | None = shown("what it waits for, if it is not ready yet")
    url: str | None = shown("page to open in a browser; it works once, and for a minute only")
    websocket: WebsocketResponse | None = shown(
        "the same for a client other than that page; not there while a console proxy is being started"
    )


class ConsoleRecordingResponse(Response):
    """What was recorded of one connection of a session."""

    part: int = shown("number of the connection, for recordingpart of createConsoleEndpoint", ...)
    created: datetime = shown("when it began", ...)
    size: int = shown("bytes", ...)


class ConsoleSessionResponse(OwnedResponse):
    """Who watched which guest's screen, and when."""

    id: str = shown("the id of the session", ...)
    created: datetime = shown("when it was asked for", ...)
    accountid: str = shown("id of the account that asked for it", ...)
    user: str = shown("user that asked for it", ...)
    userid: str = shown("id of that user", ...)
    virtualmachineid: str = shown("id of the virtual machine", ...)
    virtualmachinename: str = shown("name of the virtual machine", ...)
    hostid: str | None = shown("id of the host that the virtual machine was on")
    hostname: str | None = shown("name of that host")
    consoleendpointcreatoraddress: str = shown("address that it was asked for from", ...)
    clientaddress: str | None = shown("address that it was opened from")
    acquired: datetime | None = shown("when it was opened; not there while it was not")
    removed: datetime | None = shown("when it ended")
    state: str = shown("Pending, Open, Closing or Ended", ...)
    reason: str | None = shown("why it ended, or is being closed")
    systemvmid: str | None = shown("id of the console proxy that serves it")
    viewonly: bool = shown("whether it was for watching only", False)
    recorded: bool = shown("whether it was recorded", False)
    recordings: list[ConsoleRecordingResponse] = shown("recordings that are kept", [])
    bytessent: int = shown("bytes sent to the browser", 0)
    bytesreceived: int = shown("bytes received from the browser", 0)


def show_endpoint(endpoint: Endpoint | Starting, origin: str) -> ConsoleEndpointResponse:
    """The only place where a token is told. ``origin``: where the caller reached the API, which has the page to wait.

    There the token is in the fragment of the URL, which browsers do not send.
    """
    if isinstance(endpoint, Starting):
        return ConsoleEndpointResponse(
            success=True,
            details="a console proxy is being started; the page at url waits for it",
            url=f"{origin}{STARTING_PAGE}#{endpoint.token}",
        )
    return ConsoleEndpointResponse(
        success=True,
        url=endpoint.url,
        websocket=WebsocketResponse(
            token=endpoint.token, host=endpoint.host, port=str(endpoint.port), path=SOCKET, extra=None
        ),
    )


def show_sessions(
    session: Session, rows: Sequence[ConsoleSession], recordings: RecordingStore
) -> list[ConsoleSessionResponse]:
    """Console sessions, with those who asked for them and what is kept of them."""
    return [_show(session, row, recordings.of_session(row.id) if row.policy.get("record") else []) for row in rows]


def _show(session: Session, row: ConsoleSession, recordings: Sequence[Recording]) -> ConsoleSessionResponse:
    vm, user = session.get_one(Vm, row.vm_id), session.get_one(User, row.user_id)
    host = session.get(Host, row.host_id) if row.host_id else None
    return ConsoleSessionResponse(
        **owned_by(session.get_one(Account, row.account_id)),
        id=row.id,
        created=row.created,
        accountid=row.account_id,
        user=user.username,
        userid=user.id,
        virtualmachineid=vm.id,
        virtualmachinename=vm.display_name or vm.name,
        hostid=host.id if host else None,
        hostname=host.name if host else None,
        consoleendpointcreatoraddress=row.creator_address,
        clientaddress=row.client_address,
        acquired=row.acquired,
        removed=row.ended,
        state=row.state,
        reason=row.reason,
        systemvmid=row.appliance_id,
        viewonly=bool(row.policy.get("view_only")),
        recorded=bool(row.policy.get("record")),
        recordings=[
            ConsoleRecordingResponse(part=part, created=datetime.fromtimestamp(one.began, UTC), size=one.size)
            for part, one in enumerate(recordings, 1)
        ],
        bytessent=row.bytes_sent,
        bytesreceived=row.bytes_received,
    )
