"""Recordings between console proxies and the installation: fetched when they are finished, brought to be played."""

from __future__ import annotations

import logging

from sqlalchemy.orm import Session

from controlplane.appliances import machines
from controlplane.convergence.push import AgentClient, AgentError
from controlplane.core import Core
from controlplane.store.models import Appliance, ConsoleSession, Vm, now
from controlplane.store.recordings import Recording

log = logging.getLogger(__name__)

_SERVICE = "console"


def fetch(core: Core, client: AgentClient, *, unfinished: bool = False) -> bool:
    """Fetch what a console proxy has recorded, and have it let go of what is finished; whether it has none left.

    ``unfinished``: those under way too, as far as they are. Raises AgentError and OSError.
    """
    report = client.status().reports.get(_SERVICE)
    known = report.get("recordings", []) if isinstance(report, dict) else []
    left = False
    for one in known:
        name, size, finished = str(one["recording"]), int(one["size"]), bool(one["finished"])
        if not finished and not unfinished:
            left = True
            continue
        kept = core.recordings.size(name)
        if kept is None or kept < size:
            whole = core.recordings.take(name, size, lambda offset: client.read_file(_SERVICE, name, offset))  # noqa: B023
            left = left or not whole
            if not whole:
                continue
        if finished:
            client.remove_file(_SERVICE, name)
    return not left


def fetch_from(core: Core, appliance_id: str) -> bool:
    """The same with a client of its own; False without a proxy that could answer. Raises AgentError and OSError."""
    with core.database.reading() as session:
        proxy = session.get(Appliance, appliance_id)
        if proxy is None or proxy.state != "Running":
            return False
        agent = machines.agent_of(proxy)
    client = AgentClient(agent, core.authority, core.hypervisor.connect)
    try:
        return fetch(core, client)
    finally:
        client.close()


def find(core: Core, session_id: str, part: int) -> Recording | None:
    """A session's recording of its connection number ``part``, fetched if need be; None when it is not there."""
    if len(found := core.recordings.of_session(session_id)) < part:
        with core.database.reading() as session:
            proxy_id = session.get_one(ConsoleSession, session_id).appliance_id
        try:
            if proxy_id is not None:
                fetch_from(core, proxy_id)
        except AgentError as error:
            log.warning("recordings of session %s: %s", session_id, error)
        found = core.recordings.of_session(session_id)
    return found[part - 1] if len(found) >= part else None


def delete(core: Core, session_id: str) -> None:
    """Delete all of a session, those that are still at its proxy too. Raises AgentError and OSError."""
    with core.database.reading() as session:
        proxy_id = session.get_one(ConsoleSession, session_id).appliance_id
    if proxy_id is not None:
        fetch_from(core, proxy_id)
    for one in core.recordings.of_session(session_id):
        core.recordings.delete(one.name)


def bring(core: Core, appliance_id: str, name: str) -> None:
    """Have a console proxy play a recording. Raises AgentError and OSError."""
    with core.database.reading() as session:
        agent = machines.agent_of(session.get_one(Appliance, appliance_id))
    client = AgentClient(agent, core.authority, core.hypervisor.connect)
    try:
        for offset, piece in core.recordings.pieces(name):
            client.write_file(_SERVICE, name, offset, piece)
    finally:
        client.close()


def expire(core: Core) -> None:
    """Let go of those that are older than their zone's ``consoleproxy.recording.age``."""
    moment = now().timestamp()
    with core.database.reading() as session:
        old = [one.name for one in core.recordings.all() if moment - one.began > _age(core, session, one)]
    for name in old:
        core.recordings.delete(name)


def _age(core: Core, session: Session, recording: Recording) -> int:
    row = session.get(ConsoleSession, recording.session)
    zone = session.get_one(Vm, row.vm_id).zone_id if row is not None else None
    return core.configuration.get_int(session, "consoleproxy.recording.age", zone=zone)
