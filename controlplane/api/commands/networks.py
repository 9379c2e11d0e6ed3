"""Guest networks."""

from __future__ import annotations

from sqlalchemy import func, select
from sqlalchemy.orm import Session, joinedload

from controlplane import jobs
from controlplane.api import listing, sharing, tagging
from controlplane.api.call import Call
from controlplane.api.command import ROOT_ADMIN, Async, Params, Response, ScopedListParams, Success, command, param
from controlplane.api.tagging import TagEntry
from controlplane.api.views.networks import NetworkResponse, show_networks
from controlplane.convergence.desired import desire_network
from controlplane.errors import ParameterError
from controlplane.network import addressing, dnsdomains, guestranges, limits, networks, shared
from controlplane.store.models import Account, AsyncJob, Network, NetworkOffering, PhysicalNetwork, Zone

IMPLEMENTED = "Implemented"


class CreateNetwork(Params):
    name: str = param("name of the network")
    displaytext: str | None = param("description of the network, its name unless given", default=None)
    networkofferingid: str = param("id of the network offering", entity="NetworkOffering")
    zoneid: str = param("id of the zone", entity="Zone")
    physicalnetworkid: str | None = param("id of the physical network", default=None, entity="PhysicalNetwork")
    gateway: str | None = param(
        "address of the router on the network, or a shared network's gateway; needs netmask", default=None
    )
    netmask: str | None = param("netmask of the network", default=None)
    startip: str | None = param("first address that guests get", default=None)
    endip: str | None = param("last address that guests get, startip unless given", default=None)
    networkdomain: str | None = param("DNS domain of the guests", default=None)
    account: str | None = param("owner of the network; needs domainid", default=None)
    domainid: str | None = param("domain of the owner", default=None, entity="Domain")
    acltype: str | None = param(
        "who may use it: account, or domain (the default of shared networks; without domainid everyone in the zone)",
        default=None,
        choices=("account", "domain"),
    )
    subdomainaccess: bool | None = param("accounts of the domains below may use it too", default=None)
    vlan: str | None = param("VLAN id of a shared network, or untagged", default=None)
    privatemtu: int | None = param("MTU of the network", default=None, minimum=576, maximum=9000)


class ListNetworks(ScopedListParams):
    id: str | None = param("id of the network", default=None, entity="Network")
    zoneid: str | None = param("networks of this zone", default=None, entity="Zone")
    type: str | None = param("type of the network: Isolated or Shared", default=None)
    traffictype: str | None = param("traffic type of the network", default=None)
    acltype: str | None = param("who may use it: account or domain", default=None)
    networkfilter: str = param(
        "which of the networks one may use: all; account, its own; domain, those of its domain; accountdomain, both; "
        "shared, those that others permit it to use",
        default="all",
        choices=("all", "account", "domain", "accountdomain", "shared"),
    )
    issystem: bool | None = param("networks of the system itself", default=None)
    physicalnetworkid: str | None = param("networks of this physical one", default=None, entity="PhysicalNetwork")
    networkofferingid: str | None = param("networks of this offering", default=None, entity="NetworkOffering")
    supportedservices: list[str] | None = param("networks with all of these services", default=None)
    restartrequired: bool | None = param("networks that need a restart", default=None)
    specifyipranges: bool | None = param("networks whose address ranges an administrator gives", default=None)
    canusefordeploy: bool | None = param("networks that a VM can be deployed on", default=None)
    forvpc: bool | None = param("networks that are tiers of a VPC", default=None)
    vpcid: str | None = param("networks of this VPC", default=None, entity="Vpc")
    tags: list[TagEntry] | None = param("networks with all of these tags", default=None)


class UpdateNetwork(Params):
    id: str = param("id of the network", entity="Network")
    name: str | None = param("new name", default=None)
    displaytext: str | None = param("new description", default=None)
    networkdomain: str | None = param(
        "new DNS domain of the guests; without it, a network that inherits its domain takes what that is now",
        default=None,
    )
    networkofferingid: str | None = param("new network offering", default=None, entity="NetworkOffering")
    changecidr: bool = param("accepted for clients that send it; the CIDR stays", default=False)


class DeleteNetwork(Params):
    id: str = param("id of the network", entity="Network")


class RestartNetwork(Params):
    id: str = param("id of the network", entity="Network")
    cleanup: bool = param("replace the router instead of refreshing it", default=False)
    makeredundant: bool = param("accepted for clients that send it", default=False)


@command(
    "createNetwork",
    description="Creates a guest network",
    params=CreateNetwork,
    response=NetworkResponse,
    object_name="network",
    event="NETWORK.CREATE",
)
def create_network(call: Call, params: CreateNetwork) -> Response:
    zone = call.lookup(Zone, params.zoneid, "zoneid")
    offering = call.lookup(NetworkOffering, params.networkofferingid, "networkofferingid")
    physical = None
    if params.physicalnetworkid is not None:
        physical = call.lookup(PhysicalNetwork, params.physicalnetworkid, "physicalnetworkid")
    if offering.guest_ip_type == guestranges.SHARED:
        return _create_shared(call, params, zone, offering, physical)
    owner = call.owner(params.account, params.domainid)
    if params.acltype == "domain" or params.subdomainaccess:
        raise ParameterError("acltype: isolated networks belong to one account; use acltype=account")
    if params.vlan is not None:
        raise ParameterError("vlan: an isolated network gets its own from the system; leave it out")
    call.check_limit(owner, limits.NETWORKS, limits.used(call.session, owner, limits.NETWORKS))
    network = create(
        call,
        owner=owner,
        zone=zone,
        offering=offering,
        name=params.name,
        display_text=params.displaytext,
        subnet=networks.Subnet(params.gateway, params.netmask, params.startip, params.endip),
        network_domain=params.networkdomain,
        mtu=params.privatemtu,
        physical_network=physical,
    )
    return show_networks(call.session, [network], for_root=call.is_root)[0]


def _create_shared(
    call: Call, params: CreateNetwork, zone: Zone, offering: NetworkOffering, physical: PhysicalNetwork | None
) -> Response:
    audience = sharing.audience(
        call,
        acltype=params.acltype,
        account=params.account,
        domainid=params.domainid,
        subdomainaccess=params.subdomainaccess,
    )
    if audience.domain is None:
        call.check_limit(
            audience.account, limits.NETWORKS, limits.used(call.session, audience.account, limits.NETWORKS)
        )
    network = shared.create(
        call.session,
        name=params.name,
        display_text=params.displaytext or params.name,
        zone=zone,
        offering=offering,
        audience=audience,
        subnet=networks.Subnet(params.gateway, params.netmask, params.startip, params.endip),
        vlan=params.vlan,
        network_domain=_checked_domain(params.networkdomain),
        suffix=_suffix(call, zone),
        mtu=params.privatemtu,
        physical_network=physical,
    )
    return _created(call, network)


def _checked_domain(domain: str | None) -> str | None:
    return addressing.check_domain("networkdomain", domain) if domain else None


def _suffix(call: Call, zone: Zone) -> str:
    return call.configuration.get(call.session, "guest.domain.suffix", zone=zone.id)


def create(
    call: Call,
    *,
    owner: Account,
    zone: Zone,
    offering: NetworkOffering,
    name: str,
    display_text: str | None = None,
    subnet: networks.Subnet | None = None,
    network_domain: str | None = None,
    mtu: int | None = None,
    physical_network: PhysicalNetwork | None = None,
) -> Network:
    """A new network; a persistent one is provisioned at once, by a job of its own."""
    network = networks.create(
        call.session,
        name=name,
        display_text=display_text or name,
        zone=zone,
        offering=offering,
        account=owner,
        subnet=subnet or networks.Subnet(),
        network_domain=network_domain,
        default_suffix=_suffix(call, zone),
        mtu=mtu,
        physical_network=physical_network,
    )
    _provide(call, network)
    return network


def _created(call: Call, network: Network) -> Response:
    _provide(call, network)
    return show_networks(call.session, [network], for_root=call.is_root)[0]


def _provide(call: Call, network: Network) -> None:
    """Tell of a new network; a persistent one is provisioned at once, by a job of its own."""
    call.event(
        f"created network {network.name}",
        ("Network", network.id),
        type="NETWORK.CREATE",
        account_id=network.account_id,
    )
    if network.offering.is_persistent:
        answer = _implement(network)
        job = jobs.create(call.session, call.command, answer, user=call.user, account=call.account)
        call.after_commit(lambda: call.runtime.start_workflow("implement_network", job.id, dict(answer.arguments)))


def _implement(network: Network) -> Async:
    return Async(
        "Network",
        network.id,
        f"implementing network {network.name}",
        workflow="implement_network",
        arguments={"network_id": network.id},
        completion="network.show",
    )


@command(
    "listNetworks",
    description="Lists guest networks",
    params=ListNetworks,
    response=NetworkResponse,
    object_name="network",
)
def list_networks(call: Call, params: ListNetworks) -> tuple[int, list[NetworkResponse]]:
    # the system's own networks are not rows, and VPCs have none yet
    if params.issystem or params.forvpc or params.vpcid is not None:
        return 0, []
    statement = (
        select(Network)
        .join(NetworkOffering, NetworkOffering.id == Network.network_offering_id)
        .options(joinedload(Network.offering))
        .where(Network.removed.is_(None))
        .order_by(Network.created, Network.id)
    )
    statement = sharing.scope(call, statement, params, by_id=params.id is not None)
    for column, value in (
        (Network.id, params.id),
        (Network.zone_id, params.zoneid),
        (Network.physical_network_id, params.physicalnetworkid),
        (Network.network_offering_id, params.networkofferingid),
        (Network.restart_required, params.restartrequired),
        (NetworkOffering.specify_ip_ranges, params.specifyipranges),
    ):
        if value is not None:
            statement = statement.where(column == value)
    for text, has in (
        (params.type, NetworkOffering.guest_ip_type),
        (params.traffictype, NetworkOffering.traffic_type),
    ):
        if text is not None:
            statement = statement.where(func.lower(has) == text.lower())
    if params.acltype is not None:
        statement = statement.where(func.lower(Network.acl_type) == params.acltype.lower())
    statement = statement.where(sharing.filtered(call, params.networkfilter))
    if params.canusefordeploy is not None:
        usable = Network.state != "Destroy"
        statement = statement.where(usable if params.canusefordeploy else ~usable)
    if params.supportedservices:
        wanted = set(params.supportedservices)
        offerings = call.session.scalars(select(NetworkOffering))
        statement = statement.where(
            NetworkOffering.id.in_([row.id for row in offerings if wanted <= set(row.services)])
        )
    statement = tagging.with_tags(statement, "Network", Network.id, params.tags)
    statement = listing.search(statement, params.keyword, Network.name, Network.display_text)
    return listing.fetch(
        call, statement, params, lambda rows: list(show_networks(call.session, rows, for_root=call.is_root))
    )


@command(
    "updateNetwork",
    description="Changes a network: its name, description, DNS domain or offering",
    params=UpdateNetwork,
    response=NetworkResponse,
    object_name="network",
    is_async=True,
    event="NETWORK.UPDATE",
)
def update_network(call: Call, params: UpdateNetwork) -> Async:
    network = _own(call, params.id)
    _need_living(network)
    if params.name:
        network.name = params.name
    if params.displaytext:
        network.display_text = params.displaytext
    if params.networkdomain:
        domain = addressing.check_domain("networkdomain", params.networkdomain)
        pushed, network.network_domain, network.own_domain = domain != network.network_domain, domain, True
    else:
        pushed = dnsdomains.refresh(call.session, network, _suffix(call, network.zone))
    if params.networkofferingid is not None and params.networkofferingid != network.network_offering_id:
        offering = call.lookup(NetworkOffering, params.networkofferingid, "networkofferingid")
        networks.check_offering_change(call.session, network, offering)
        return _change_offering(call, network, offering)
    return Async(
        "Network",
        network.id,
        f"updating network {network.name}",
        target=desire_network(call.session, network.id) if pushed else None,
        completion="network.show",
        arguments={"network_id": network.id},
    )


def _change_offering(call: Call, network: Network, offering: NetworkOffering) -> Async:
    """Live where the router can follow; a new router where its size or redundancy changes."""
    old = network.offering
    replace = (old.service_offering_id, old.redundant_router) != (
        offering.service_offering_id,
        offering.redundant_router,
    )
    network.network_offering_id = offering.id
    call.session.flush()
    call.session.expire(network, ["offering"])
    networks.mark_idle(call.session, [network.id])
    # guests' additional NICs have the network's rate
    call.after_commit(lambda: call.runtime.hurry("rates"))
    if network.state == IMPLEMENTED and replace:
        network.restart_required = True
        return _restart(network, cleanup=True)
    if network.state == "Allocated" and offering.is_persistent:
        return _implement(network)
    return Async(
        "Network",
        network.id,
        f"updating network {network.name}",
        target=desire_network(call.session, network.id),
        completion="network.show",
        arguments={"network_id": network.id},
    )


@command(
    "deleteNetwork",
    description="Deletes a network with its rules and addresses; its guests must have been expunged",
    params=DeleteNetwork,
    is_async=True,
    event="NETWORK.DELETE",
)
def delete_network(call: Call, params: DeleteNetwork) -> Async:
    network = _own(call, params.id)
    networks.begin_delete(call.session, network)
    return Async(
        "Network",
        network.id,
        f"deleting network {network.name}",
        workflow="delete_network",
        arguments={"network_id": network.id},
        completion="network.deleted",
    )


@command(
    "restartNetwork",
    description="Brings a network's router in line again, or replaces it with cleanup=true",
    params=RestartNetwork,
    is_async=True,
    event="NETWORK.RESTART",
)
def restart_network(call: Call, params: RestartNetwork) -> Async:
    network = _own(call, params.id)
    _need_living(network)
    if network.state != IMPLEMENTED:
        raise ParameterError(
            f"Network {network.name} is not in the right state to be restarted: it is {network.state}, which must be "
            f"{IMPLEMENTED}; it starts with its first guest"
        )
    return _restart(network, cleanup=params.cleanup)


def _restart(network: Network, *, cleanup: bool) -> Async:
    return Async(
        "Network",
        network.id,
        f"restarting network {network.name}" + (" with a new router" if cleanup else ""),
        workflow="restart_network",
        arguments={"network_id": network.id, "cleanup": cleanup},
        completion="network.restarted",
        completion_arguments={"network_id": network.id},
    )


def _own(call: Call, id: str) -> Network:
    """A network that the caller may change."""
    network = call.lookup(Network, id)
    sharing.need_operator(call, network)
    return network


def _need_living(network: Network) -> None:
    if network.state == "Destroy":
        raise ParameterError(f"network {network.name} is being deleted")


@jobs.completion("network.show")
def _shown(session: Session, job: AsyncJob, *, network_id: str) -> Response:
    return _show(session, job, session.get_one(Network, network_id))


@jobs.completion("network.restarted")
def _restarted(session: Session, job: AsyncJob, *, network_id: str) -> Response:
    network = session.get_one(Network, network_id)
    network.restart_required = False
    session.flush()
    return Success() if job.command == "restartNetwork" else _show(session, job, network)


@jobs.completion("network.deleted")
def _deleted(session: Session, job: AsyncJob, *, network_id: str) -> Response:
    networks.finish_delete(session, network_id)
    return Success()


def _show(session: Session, job: AsyncJob, network: Network) -> NetworkResponse:
    session.refresh(network)
    for_root = session.get_one(Account, job.account_id).type == ROOT_ADMIN
    return show_networks(session, [network], for_root=for_root)[0]
