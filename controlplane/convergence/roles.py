"""What is special to each kind of appliance; everything else in this folder is the same for all.

A new role is one entry here, with a loader of its intent, a compiler and, if it has any, a reader of its reports.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from sqlalchemy import select
from sqlalchemy.orm import Session

from appliance.schema.status import Status
from controlplane import routers
from controlplane.console import recordings, sessions
from controlplane.convergence.compile.consoleproxy import compile_consoleproxy
from controlplane.convergence.compile.memo import Memo
from controlplane.convergence.compile.router import compile_router
from controlplane.convergence.compile.ssvm import compile_ssvm
from controlplane.convergence.desired import desire
from controlplane.convergence.intent import consoleproxy as proxy_intent
from controlplane.convergence.intent import load as router_intent
from controlplane.convergence.intent import ssvm as ssvm_intent
from controlplane.convergence.intent.rows import ApplianceNic
from controlplane.convergence.push import AgentClient
from controlplane.convergence.reports import consoleproxy as proxy_reports
from controlplane.convergence.reports import router as router_reports
from controlplane.convergence.reports import ssvm as ssvm_reports
from controlplane.core import Core
from controlplane.imagestores import jobs as storage_jobs
from controlplane.imagestores import links as storage_links
from controlplane.network import rates, storagenetwork
from controlplane.store.models import Appliance


class Intent(Protocol):
    """What every intent has, of whatever role."""

    @property
    def generation(self) -> int: ...
    @property
    def nics(self) -> Iterable[ApplianceNic]: ...
    @property
    def segments(self) -> frozenset[str]:
        """Segments that the appliance has an address on: it needs a NIC on each."""


def _never(appliance: Appliance, status: Status) -> bool:
    return False


def _nothing(session: Session, appliance: Appliance, status: Status) -> None:
    return None


def _prepared(session: Session, appliance: Appliance, core: Core) -> bool:
    return False


def _left(session: Session, appliance: Appliance) -> None:
    return None


def _nothing_left(core: Core, client: AgentClient) -> None:
    return None


@dataclass(frozen=True)
class Role:
    """One kind of appliance. ``label`` is what sentences call it, ``resource`` what the API's events call it."""

    label: str
    resource: str
    #: first part of the types of its events, e.g. ``ROUTER`` of ``ROUTER.REPAIR``
    events: str
    #: reads the intent of the appliance with that id from one snapshot of the tables
    load: Callable[[Session, str, Core], Intent]
    #: the document (JSON, UTF-8) of an intent; raises CompileError
    compile: Callable[[Any, Memo], bytes]
    #: gives the row a NIC on each segment that it has an address on; None: it has all from the start
    add_nics: Callable[[Session, Appliance], object] | None = None
    #: sees to what the row needs beside itself before its document can be compiled; whether anything was missing
    prepare: Callable[[Session, Appliance, Core], bool] = _prepared
    #: its machine is gone, or stopped for good: ends what it served
    gone: Callable[[Session, Appliance], None] = _left
    #: fetches what it alone has, before its machine goes
    fetch_last: Callable[[Core, AgentClient], None] = _nothing_left
    #: names of settings that its document is made of begin so
    settings: str | None = None
    #: whether ``take_reports`` would change anything
    has_reports: Callable[[Appliance, Status], bool] = _never
    take_reports: Callable[[Session, Appliance, Status], None] = _nothing


def _load_router(session: Session, appliance_id: str, core: Core) -> Intent:
    return router_intent.load(session, appliance_id, core.secrets, core.cloud, core.configuration)


def _release_storage(session: Session, appliance: Appliance) -> None:
    storage_jobs.release(session, appliance.id)
    storage_links.release(session, appliance.id)


def _fetch_recordings(core: Core, client: AgentClient) -> None:
    recordings.fetch(core, client, unfinished=True)


def _end_sessions(session: Session, appliance: Appliance) -> None:
    sessions.abandon(session, appliance.id, "its console proxy is gone")
    # the others do not name it as a name server any more
    desire_setting(session, "consoleproxy.", appliance.zone_id)


ROLES: Mapping[str, Role] = {
    "router": Role(
        label="router",
        resource="DomainRouter",
        events="ROUTER",
        load=_load_router,
        settings=rates.NETWORK_RATE,
        compile=compile_router,
        add_nics=routers.add_public_nics,
        has_reports=router_reports.has_news,
        take_reports=router_reports.take,
    ),
    "consoleproxy": Role(
        label="console proxy",
        resource="SystemVm",
        events="PROXY",
        load=proxy_intent.load,
        compile=compile_consoleproxy,
        prepare=proxy_intent.prepare,
        gone=_end_sessions,
        fetch_last=_fetch_recordings,
        settings="consoleproxy.",
        has_reports=proxy_reports.has_news,
        take_reports=proxy_reports.take,
    ),
    "ssvm": Role(
        label="secondary-storage VM",
        resource="SystemVm",
        events="SSVM",
        load=ssvm_intent.load,
        compile=compile_ssvm,
        add_nics=storagenetwork.add_nic,
        prepare=ssvm_intent.prepare,
        gone=_release_storage,
        settings="secstorage.",
        has_reports=ssvm_reports.has_news,
        take_reports=ssvm_reports.take,
    ),
}


def role_of(appliance: Appliance) -> Role:
    """The role of an appliance."""
    return ROLES[appliance.role]


def desire_setting(session: Session, setting: str, zone_id: str | None = None) -> list[str]:
    """``desire`` for the appliances, of one zone or all, whose documents are made of ``setting`` too: their ids."""
    roles = [name for name, role in ROLES.items() if role.settings is not None and setting.startswith(role.settings)]
    there = select(Appliance.id).where(Appliance.role.in_(roles), Appliance.removed.is_(None))
    there = there.where(Appliance.zone_id == zone_id) if zone_id is not None else there
    found = list(session.scalars(there))
    for appliance_id in found:
        desire(session, appliance_id)
    return found
