"""Consoles of virtual machines (guide: chapters 10.14 and 16.3)."""

from __future__ import annotations

import secrets
from datetime import datetime
from typing import Any

from sqlalchemy import select

from controlplane.api import listing, sessions
from controlplane.api.call import Call
from controlplane.api.command import ADMINS, Later, Params, ScopedListParams, Success, command, param
from controlplane.api.passwords import token_hash
from controlplane.api.views.consoles import (
    ConsoleEndpointResponse,
    ConsoleSessionResponse,
    show_endpoint,
    show_sessions,
)
from controlplane.console import sessions as consoles
from controlplane.errors import ParameterError
from controlplane.store.models import ConsoleSession, Session, Vm


class CreateConsoleEndpoint(Params):
    virtualmachineid: str = param("id of the virtual machine", entity="UserVm")
    token: str | None = param("accepted for clients that send it; the session's own token is enough", default=None)
    viewonly: bool = param("only watch: no keys, no pointer, no clipboard", default=False)
    exclusive: bool = param("disconnect others from the same screen", default=False)
    record: bool = param("record it, and say so on the screen", default=False)
    recordingid: str | None = param(
        "play back the recording of this session of the virtual machine", default=None, entity="ConsoleSession"
    )
    recordingpart: int = param(
        "with recordingid: which of its connections, where it broke off and came back", default=1, minimum=1
    )


@command(
    "createConsoleEndpoint",
    description="Makes a virtual machine's console ready and answers where to open it, once and within a minute",
    params=CreateConsoleEndpoint,
    response=ConsoleEndpointResponse,
    object_name="consoleendpoint",
)
def create_console_endpoint(call: Call, params: CreateConsoleEndpoint) -> Later:
    vm = call.lookup(Vm, params.virtualmachineid, "virtualmachineid")
    recorded = _recorded(call, vm, params.recordingid) if params.recordingid is not None else None
    if vm.state != "Running" and recorded is None:
        raise ParameterError(f"virtual machine {vm.name} is {vm.state}; only a running one has a console")
    call.check_limit(call.account, "max.account.console.sessions", consoles.of_account(call.session, call.account.id))
    token = secrets.token_urlsafe(32)
    row = consoles.create(
        call.session,
        vm=vm,
        user=call.user,
        token_hash=token_hash(token),
        policy=_policy(call, vm, params),
        login=_login(call),
        creator_address=call.client.address,
        playback=recorded is not None,
    )
    runtime, session_id, of, part = call.runtime, row.id, params.recordingid, params.recordingpart
    origin = call.client.origin
    return Later(lambda: show_endpoint(runtime.consoles.open(session_id, token, of, part), origin))


def _recorded(call: Call, vm: Vm, session_id: str) -> ConsoleSession:
    """A session of the guest that was recorded, and that the caller may see."""
    row = call.lookup(ConsoleSession, session_id, "recordingid")
    if row.vm_id != vm.id or not row.policy.get("record") or row.acquired is None:
        raise ParameterError(f"recordingid: session {row.id} is no recorded one of virtual machine {vm.name}")
    return row


def _policy(call: Call, vm: Vm, params: CreateConsoleEndpoint) -> dict[str, Any]:
    scopes = {"account": vm.account_id, "domain": vm.account.domain_id, "zone": vm.zone_id}

    def allowed(name: str) -> bool:
        return call.configuration.get_bool(call.session, f"consoleproxy.session.{name}", **scopes)

    policy: dict[str, Any] = {
        "view_only": params.viewonly,
        "clipboard": allowed("clipboard") and not params.viewonly,
        "sharing": "exclusive" if params.exclusive else "shared",
        # what is played back was recorded already
        "record": (params.record or allowed("record")) and params.recordingid is None,
    }
    if call.configuration.get_bool(call.session, "consoleproxy.session.bind.address", zone=vm.zone_id):
        if ":" in call.client.address:
            raise ParameterError(
                "consoles open only at the IPv4 address they are asked for from (consoleproxy.session.bind.address); "
                f"this call came from {call.client.address}"
            )
        policy["client"] = call.client.address
    return policy


def _login(call: Call) -> str | None:
    """The hash of the cookie of the login that the caller is in, if any."""
    cookie = call.client.cookies.get(sessions.COOKIE)
    found = call.session.get(Session, token_hash(cookie)) if cookie else None
    return found.cookie_hash if found is not None and found.user_id == call.user.id else None


class ListConsoleSessions(ScopedListParams):
    id: str | None = param("id of the session", default=None, entity="ConsoleSession")
    userid: str | None = param("sessions that this user asked for", default=None, entity="User")
    accountid: str | None = param("sessions that this account asked for", default=None, entity="Account")
    virtualmachineid: str | None = param("sessions of this virtual machine", default=None, entity="UserVm")
    hostid: str | None = param("sessions of virtual machines on this host", default=None, entity="Host")
    consoleendpointcreatoraddress: str | None = param("sessions asked for from this address", default=None)
    clientaddress: str | None = param("sessions opened from this address", default=None)
    startdate: datetime | None = param("sessions asked for then or later", default=None)
    enddate: datetime | None = param("sessions asked for then or earlier", default=None)
    activeonly: bool = param("sessions that have not ended", default=False)
    acquired: bool = param("sessions that were opened", default=False)


@command(
    "listConsoleSessions",
    description="Lists console sessions: who watches which screen, and who did",
    params=ListConsoleSessions,
    response=ConsoleSessionResponse,
    object_name="consolesession",
)
def list_console_sessions(call: Call, params: ListConsoleSessions) -> tuple[int, list[ConsoleSessionResponse]]:
    statement = select(ConsoleSession).order_by(ConsoleSession.created.desc(), ConsoleSession.id)
    statement = listing.scope(call, statement, ConsoleSession.account_id, params, by_id=params.id is not None)
    for column, value in (
        (ConsoleSession.id, params.id),
        (ConsoleSession.user_id, params.userid),
        (ConsoleSession.account_id, params.accountid),
        (ConsoleSession.vm_id, params.virtualmachineid),
        (ConsoleSession.host_id, params.hostid),
        (ConsoleSession.creator_address, params.consoleendpointcreatoraddress),
        (ConsoleSession.client_address, params.clientaddress),
    ):
        if value is not None:
            statement = statement.where(column == value)
    if params.startdate is not None:
        statement = statement.where(ConsoleSession.created >= params.startdate)
    if params.enddate is not None:
        statement = statement.where(ConsoleSession.created <= params.enddate)
    if params.activeonly:
        statement = statement.where(ConsoleSession.state != "Ended")
    if params.acquired:
        statement = statement.where(ConsoleSession.acquired.is_not(None))
    statement = listing.search(statement, params.keyword, ConsoleSession.client_address, ConsoleSession.creator_address)
    recordings = call.runtime.recordings
    return listing.fetch(call, statement, params, lambda rows: show_sessions(call.session, rows, recordings))


class DeleteConsoleSession(Params):
    id: str = param("id of the session", entity="ConsoleSession")


@command(
    "deleteConsoleSession",
    description="Closes a console at once",
    params=DeleteConsoleSession,
    event="VNC.CLOSE",
)
def delete_console_session(call: Call, params: DeleteConsoleSession) -> Success:
    row = call.lookup(ConsoleSession, params.id)
    vm = call.session.get_one(Vm, row.vm_id)
    if row.state == "Ended":
        raise ParameterError("the console session has ended already")
    call.close_consoles(ConsoleSession.id == row.id, f"closed by user {call.user.username}")
    call.event(f"closed a console of {vm.display_name or vm.name}", ("UserVm", vm.id), account_id=vm.account_id)
    return Success()


class DeleteConsoleRecording(Params):
    id: str = param("id of the console session that was recorded", entity="ConsoleSession")


@command(
    "deleteConsoleRecording",
    description="Deletes what was recorded of a console session that has ended",
    params=DeleteConsoleRecording,
    event="VNC.RECORDING.DELETE",
    roles=ADMINS,
)
def delete_console_recording(call: Call, params: DeleteConsoleRecording) -> Later:
    row = call.lookup(ConsoleSession, params.id)
    vm = call.session.get_one(Vm, row.vm_id)
    if row.state != "Ended":
        raise ParameterError(f"the console session is {row.state}; close it first (deleteConsoleSession)")
    call.event(f"deleted the recording of a console of {vm.display_name or vm.name}", ("UserVm", vm.id))
    runtime, session_id = call.runtime, row.id

    def delete() -> Success:
        runtime.consoles.delete_recordings(session_id)
        return Success()

    return Later(delete)
