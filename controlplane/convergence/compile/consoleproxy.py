"""The document of a console proxy."""

from __future__ import annotations

import json
from typing import Annotated

from pydantic import Field, TypeAdapter, ValidationError

from appliance.schema.web import Certificate
from consoleproxy.services.console.model import Console, Playback, Policy, Session, VncTarget
from consoleproxy.services.dns.model import Dns
from controlplane.convergence.compile.encoding import dump, extend, object_of, reasons
from controlplane.convergence.compile.interfaces import interfaces_of
from controlplane.convergence.compile.memo import CompileError, Memo
from controlplane.convergence.intent.consoleproxy import ProxyIntent, Screen

_TARGET: TypeAdapter[VncTarget | Playback] = TypeAdapter(Annotated[VncTarget | Playback, Field(discriminator="kind")])


def compile_consoleproxy(intent: ProxyIntent, memo: Memo) -> bytes:
    """The ConsoleProxyDocument (JSON, UTF-8) of one console proxy. Raises CompileError naming the session's id."""
    state = {
        "hostname": json.dumps(intent.name).encode(),
        "interfaces": dump(interfaces_of(intent)),
        "console": _console(intent, memo),
    }
    if intent.domain is not None:
        state["dns"] = dump(_dns(intent, intent.domain))
    head = {"kind": "consoleproxy", "version": 1, "id": intent.appliance_id, "generation": intent.generation}
    return extend(json.dumps(head).encode(), state=object_of(state))


def _dns(intent: ProxyIntent, domain: str) -> Dns:
    ranges = [{"first": first, "last": last} for first, last in intent.ranges]
    try:
        return Dns.model_validate({"domain": domain, "ranges": ranges, "nameservers": intent.nameservers})
    except ValidationError as error:
        raise CompileError(intent.appliance_id, reasons(error)) from error


def _console(intent: ProxyIntent, memo: Memo) -> bytes:
    shown = intent.certificate
    try:
        console = Console(
            certificate=Certificate.model_validate(
                {"certificate": shown.certificate, "key": shown.key, "chain": shown.chain}
            ),
            domain=intent.domain,
            origins=intent.origins,
            frame_ancestors=intent.frame_ancestors,
            session_max=intent.session_max,
            idle_limit=intent.idle_limit,
            length_limit=intent.length_limit,
            recording_age=intent.recording_age,
            acknowledged=intent.acknowledged,
        )
    except ValidationError as error:
        raise CompileError(intent.appliance_id, reasons(error)) from error
    return extend(dump(console, without="sessions"), sessions=memo.join("sessions", intent.sessions, _session))


def _session(screen: Screen) -> Session:
    return Session(
        id=screen.id,
        token_hash=screen.token_hash,
        vm=screen.vm_id,
        name=screen.name,
        target=_TARGET.validate_python({"kind": "vnc"} | dict(screen.target)),
        policy=Policy.model_validate(dict(screen.policy)),
        expires=screen.expires,
    )
