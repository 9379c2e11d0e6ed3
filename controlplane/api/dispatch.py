"""One request from bytes to bytes: authenticate, authorize, parse, run the handler in a transaction, encode.

Free of HTTP machinery and blocking, so that it runs in a worker thread and in a unit test alike.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from sqlalchemy import select
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from controlplane import jobs
from controlplane.api import encode, sessions, signing
from controlplane.api.call import Call, Client, Runtime
from controlplane.api.command import ROOT_ADMIN, Async, Command, Later, Listing, Response, Success, commands
from controlplane.api.parameters import Raw, parse, read_form, text_of
from controlplane.errors import ApiError, UnauthenticatedError, UnsupportedError
from controlplane.store.defaults import ADMIN_USER_ID
from controlplane.store.models import User, now
from controlplane.version import API_VERSION

log = logging.getLogger("gatehouse.api")

#: Answers to callers without valid credentials say no more than this.
NOT_VERIFIED = "unable to verify user credentials and/or request signature"
_NO_KEY = "-"


@dataclass(frozen=True)
class Request:
    """An HTTP request, as far as the API cares."""

    method: str
    query: bytes
    body: bytes = b""
    cookies: Mapping[str, str] = field(default_factory=dict)
    address: str = ""
    #: came in on the integration port: acts as the system's administrator
    trusted: bool = False
    #: where it was sent to: scheme, host and port
    origin: str = ""


@dataclass(frozen=True)
class Reply:
    """An HTTP response. ``cookies``: name -> value, None deletes."""

    status: int
    body: bytes
    content_type: str
    description: str | None = None
    cookies: Mapping[str, str | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Limits:
    """What is counted between requests."""

    logins: sessions.Limiter = field(default_factory=sessions.Limiter)
    calls: sessions.Limiter = field(default_factory=sessions.Limiter)


class _Server(NamedTuple):
    runtime: Runtime
    limits: Limits


@dataclass
class _Outcome:
    """What is known of a request as it proceeds; the log line and the shape of an error come from it."""

    raw: Raw = field(default_factory=dict)
    key: str = "errorresponse"
    json: bool = False
    command: str = "-"
    who: str = "-"


def handle(runtime: Runtime, limits: Limits, request: Request) -> Reply:
    """Answer one request. Never raises: errors become replies in the API's shape."""
    started = time.monotonic()
    outcome = _Outcome()
    try:
        reply = _handle(runtime, limits, request, outcome)
    except ApiError as error:
        reply = error_reply(error, outcome.key, json=outcome.json)
    except OperationalError:
        log.exception("%s: the database did not answer", outcome.command)
        busy = ApiError("the database is busy or unavailable; try again", code=503, cs_code=9999)
        reply = error_reply(busy, outcome.key, json=outcome.json)
    except Exception:
        reference = secrets.token_hex(4)
        log.exception("%s failed, reference %s", outcome.command, reference)
        internal = ApiError(f"internal error; the log of the control plane has more under {reference}")
        reply = error_reply(internal, outcome.key, json=outcome.json)
    # never the parameters: they carry signatures, keys and passwords
    took = (time.monotonic() - started) * 1000
    log.info("%s %s from %s: %d in %.1f ms", outcome.command, outcome.who, request.address, reply.status, took)
    return reply


def error_reply(error: ApiError, key: str = "errorresponse", *, json: bool = True) -> Reply:
    """An error in the API's shape."""
    body: dict[str, Any] = {
        "uuidList": [],
        "errorcode": error.code,
        "cserrorcode": error.cs_code,
        "errortext": error.text,
    }
    return replace(_reply(key, body, json=json), status=error.code, description=error.text)


def _reply(key: str, body: Mapping[str, Any], *, json: bool) -> Reply:
    if json:
        return Reply(200, encode.to_json(key, body), encode.JSON_TYPE)
    return Reply(200, encode.to_xml(key, body, API_VERSION), encode.XML_TYPE)


def _handle(runtime: Runtime, limits: Limits, request: Request, outcome: _Outcome) -> Reply:
    # the wish for JSON is honoured for errors of the other parameters too
    lowered = (request.query + b"&" + request.body).lower()
    outcome.json = b"response=json" in lowered
    raw = outcome.raw = read_form(request.query, request.body)
    outcome.json = (text_of(raw, "response") or "").lower() == "json"
    name = text_of(raw, "command")
    if not name:
        raise UnsupportedError("Invalid request, no command sent")
    command = commands().get(name.lower())
    if command is not None:
        outcome.key, outcome.command = command.response_key, command.name
    user_id = None if command is not None and command.anonymous else _authenticate(runtime, request, raw)
    # only callers with credentials learn which commands there are
    if command is None:
        raise UnsupportedError(_not_available(name))
    with_limits = _Server(runtime, limits)
    return _run(with_limits, request, outcome, command, user_id)


def _authenticate(runtime: Runtime, request: Request, raw: Raw) -> str:
    """The id of the calling user. Raises UnauthenticatedError."""
    if request.trusted:
        return ADMIN_USER_ID
    with runtime.database.reading() as session:
        cookie = request.cookies.get(sessions.COOKIE)
        if text_of(raw, "apikey") is not None or text_of(raw, "signature") is not None or not cookie:
            return _by_signature(runtime, session, raw)
        found = sessions.find(session, cookie, text_of(raw, "sessionkey") or "")
        if found is None:
            raise UnauthenticatedError(NOT_VERIFIED)
        user_id = _enabled(session.get(User, found.user_id)).id
        expires = found.expires
    sessions.renew(runtime.database, runtime.configuration, cookie, expires)
    return user_id


def _by_signature(runtime: Runtime, session: Session, raw: Raw) -> str:
    api_key = text_of(raw, "apikey") or ""
    user = session.scalars(select(User).where(User.api_key == api_key)).one_or_none()
    # an unknown key costs as much as a known one
    secret = runtime.secrets.open(user.secret_key) if user is not None and user.secret_key else _NO_KEY
    if not signing.verify(raw, secret) or user is None or not user.secret_key:
        raise UnauthenticatedError(NOT_VERIFIED)
    signing.check_expiry(raw, now())
    return _enabled(user).id


def _enabled(user: User | None) -> User:
    if user is None or user.state != "enabled" or user.account.state != "enabled":
        raise UnauthenticatedError(NOT_VERIFIED)
    return user


def _run(
    server: _Server,
    request: Request,
    outcome: _Outcome,
    command: Command,
    user_id: str | None,
) -> Reply:
    runtime, limits = server
    if command.post_only and request.method != "POST":
        raise ApiError(f"{command.name} takes POST only, so that secrets stay out of addresses", code=405, cs_code=9999)
    database = runtime.database
    client = Client(request.address, request.cookies, limits.logins, request.origin)
    with database.reading() if command.reads else database.transaction() as session:
        user = session.get_one(User, user_id) if user_id is not None else None
        call = Call(session, runtime, command, client, user)
        if user is not None:
            outcome.who = f"{user.account.name}/{user.username}"
            if user.account.type not in command.roles:
                raise UnsupportedError(_not_available(command.name))
            _throttle(runtime, limits, session, user)
        answer = command.handler(call, parse(command, outcome.raw))
        body = {} if isinstance(answer, Later) else _body(call, answer)
    call.run_after_commit()
    if isinstance(answer, Later):
        body = _wrapped(command, answer.make())
    return replace(_reply(command.response_key, body, json=outcome.json), cookies=client.set_cookies)


def _not_available(name: str) -> str:
    return f"The given command {name[:100]!r} does not exist or is not available to this user"


def _throttle(runtime: Runtime, limits: Limits, session: Session, user: User) -> None:
    settings = runtime.configuration
    if user.account.type == ROOT_ADMIN or not settings.get_bool(session, "api.throttling.enabled"):
        return
    number, left = limits.calls.add(user.account_id, settings.get_int(session, "api.throttling.interval"))
    if number > settings.get_int(session, "api.throttling.max"):
        raise ApiError(
            f"The given user has reached the account's API limit, please retry after {int(left * 1000)} ms",
            code=429,
            cs_code=9999,
        )


def _body(call: Call, answer: Response | tuple[int, list[Any]] | Listing | Async) -> dict[str, Any]:
    """What is under the top-level key of an answer."""
    command = call.command
    if isinstance(answer, Async):
        job = jobs.create(call.session, command, answer, user=call.user, account=call.account)
        _start(call, answer, job.id)
        return {"id": answer.instance_id, "jobid": job.id} if command.creates else {"jobid": job.id}
    if isinstance(answer, tuple):
        answer = Listing(str(command.object_name), *answer)
    if isinstance(answer, Listing):
        empty = not answer.items and not answer.total
        return {} if empty else {"count": answer.total, answer.object_name: encode.plain(answer.items)}
    return _wrapped(command, answer)


def _wrapped(command: Command, answer: Response) -> dict[str, Any]:
    if isinstance(answer, Success):
        # text here, a boolean in the result of a job: clients compare with "true"
        return {**encode.plain(answer), "success": "true" if answer.success else "false"}
    body: dict[str, Any] = encode.plain(answer)
    return {command.object_name: body} if command.object_name else body


def _start(call: Call, answer: Async, job_id: str) -> None:
    """What follows the commit of an asynchronous command."""
    runtime = call.runtime
    if answer.target is not None:
        appliance_id = answer.target[0]
        call.after_commit(lambda: runtime.wake(appliance_id))
    if answer.workflow is not None:
        workflow, arguments = answer.workflow, dict(answer.arguments)
        call.after_commit(lambda: runtime.start_workflow(workflow, job_id, arguments))
