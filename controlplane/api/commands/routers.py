"""Virtual routers, for administrators."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from controlplane import jobs
from controlplane.api import listing
from controlplane.api.call import Call
from controlplane.api.command import ADMINS, Async, Params, Response, ScopedListParams, answer, command, param
from controlplane.api.views.routers import (
    RouterHealthResponse,
    RouterResponse,
    show_health,
    show_routers,
)
from controlplane.errors import ParameterError, unknown_id
from controlplane.store.models import Appliance, AsyncJob, Cluster, Host
from controlplane.version import VERSION


class ListRouters(ScopedListParams):
    id: str | None = param("id of the router", default=None, entity="DomainRouter")
    name: str | None = param("name of the router", default=None)
    state: str | None = param("state of the router", default=None)
    zoneid: str | None = param("routers of this zone", default=None, entity="Zone")
    podid: str | None = param("routers on hosts of this pod", default=None, entity="Pod")
    clusterid: str | None = param("routers on hosts of this cluster", default=None, entity="Cluster")
    hostid: str | None = param("routers on this host", default=None, entity="Host")
    networkid: str | None = param("routers of this network", default=None, entity="Network")
    version: str | None = param("routers that run this version", default=None)
    forvpc: bool | None = param("routers of VPCs, or all others", default=None)
    vpcid: str | None = param("routers of this VPC", default=None, entity="Vpc")
    healthchecksfailed: bool | None = param("routers with failing, or with good, health checks", default=None)
    fetchhealthcheckresults: bool = param("show the results of the health checks", default=False)


class RouterId(Params):
    id: str = param("id of the router", entity="DomainRouter")


class StopRouter(RouterId):
    forced: bool = param("stop it at once", default=False)


class RouterHealth(Params):
    routerid: str = param("id of the router", entity="DomainRouter")
    performfreshchecks: bool = param("probe now; a router probes itself all the time", default=False)


def _find(call: Call, id: str, parameter: str = "id") -> Appliance:
    router = call.lookup(Appliance, id, parameter)
    if router.role != "router":
        raise unknown_id(parameter, id)
    return router


def _need_state(router: Appliance, *states: str, to: str) -> None:
    if router.state not in states:
        raise ParameterError(
            f"Unable to {to} router {router.name}: it is {router.state}, which must be {' or '.join(states)}"
        )


def _answer(router: Appliance, description: str, workflow: str, **arguments: object) -> Async:
    return answer("DomainRouter", router.id, "router", description, workflow, **arguments)


@jobs.completion("router.show")
def _shown(session: Session, job: AsyncJob, *, router_id: str) -> Response:
    router = session.get_one(Appliance, router_id)
    session.refresh(router)
    return show_routers(session, [router], current_version=VERSION)[0]


@command(
    "startRouter",
    description="Starts a router",
    params=RouterId,
    response=RouterResponse,
    object_name="router",
    roles=ADMINS,
    is_async=True,
    event="ROUTER.START",
)
def start_router(call: Call, params: RouterId) -> Async:
    router = _find(call, params.id)
    _need_state(router, "Stopped", "Error", "Running", to="start")
    return _answer(router, f"starting router {router.name}", "start_router")


@command(
    "stopRouter",
    description="Stops a router; its network has no services until it starts again",
    params=StopRouter,
    response=RouterResponse,
    object_name="router",
    roles=ADMINS,
    is_async=True,
    event="ROUTER.STOP",
)
def stop_router(call: Call, params: StopRouter) -> Async:
    router = _find(call, params.id)
    _need_state(router, "Running", "Stopped", "Error", to="stop")
    return _answer(router, f"stopping router {router.name}", "stop_router", forced=params.forced)


@command(
    "rebootRouter",
    description="Stops a router and starts it with everything it had",
    params=StopRouter,
    response=RouterResponse,
    object_name="router",
    roles=ADMINS,
    is_async=True,
    event="ROUTER.REBOOT",
)
def reboot_router(call: Call, params: StopRouter) -> Async:
    router = _find(call, params.id)
    _need_state(router, "Running", to="reboot")
    return _answer(router, f"rebooting router {router.name}", "reboot_router", forced=params.forced)


@command(
    "destroyRouter",
    description="Removes a router; the next guest, or restartNetwork, builds another",
    params=RouterId,
    response=RouterResponse,
    object_name="router",
    roles=ADMINS,
    is_async=True,
    event="ROUTER.DESTROY",
)
def destroy_router(call: Call, params: RouterId) -> Async:
    router = _find(call, params.id)
    _need_state(router, "Running", "Stopped", "Error", to="destroy")
    return _answer(router, f"destroying router {router.name}", "destroy_router")


@command(
    "listRouters",
    description="Lists routers with their state and health",
    params=ListRouters,
    response=RouterResponse,
    object_name="router",
    roles=ADMINS,
)
def list_routers(call: Call, params: ListRouters) -> tuple[int, list[RouterResponse]]:
    if params.forvpc or params.vpcid is not None:
        return 0, []
    statement = (
        select(Appliance)
        .where(Appliance.role == "router", Appliance.removed.is_(None))
        .order_by(Appliance.created, Appliance.id)
    )
    statement = listing.scope(call, statement, Appliance.account_id, params, by_id=params.id is not None)
    for column, value in (
        (Appliance.id, params.id),
        (Appliance.name, params.name),
        (Appliance.state, params.state.capitalize() if params.state is not None else None),
        (Appliance.zone_id, params.zoneid),
        (Appliance.host_id, params.hostid),
        (Appliance.network_id, params.networkid),
        (Appliance.version, params.version),
    ):
        if value is not None:
            statement = statement.where(column == value)
    if params.clusterid is not None or params.podid is not None:
        hosts = select(Host.id).join(Cluster, Cluster.id == Host.cluster_id)
        hosts = hosts.where(Cluster.id == params.clusterid) if params.clusterid is not None else hosts
        hosts = hosts.where(Cluster.pod_id == params.podid) if params.podid is not None else hosts
        statement = statement.where(Appliance.host_id.in_(hosts))
    if params.healthchecksfailed is not None:
        statement = statement.where(Appliance.healthy.is_(not params.healthchecksfailed))
    statement = listing.search(statement, params.keyword, Appliance.name, Appliance.state)

    def show(rows: list[Appliance]) -> list[RouterResponse]:
        return show_routers(call.session, rows, current_version=VERSION, with_health=params.fetchhealthcheckresults)

    return listing.fetch(call, statement, params, show)


@command(
    "getRouterHealthCheckResults",
    description="Shows the newest probes of a router's services",
    params=RouterHealth,
    response=RouterHealthResponse,
    object_name="routerhealthchecks",
    roles=ADMINS,
)
def get_router_health_check_results(call: Call, params: RouterHealth) -> Response:
    router = _find(call, params.routerid, "routerid")
    if router.state != "Running":
        raise ParameterError(f"router {router.name} is {router.state}; only a running router has health checks")
    return RouterHealthResponse(routerid=router.id, healthchecks=show_health(router))
