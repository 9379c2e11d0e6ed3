"""Static NAT."""

from __future__ import annotations

from sqlalchemy.orm import Session

from controlplane import jobs
from controlplane.api.call import Call
from controlplane.api.command import Async, Params, Response, ScopedListParams, Success, command, param, shown
from controlplane.api.targets import wake_network
from controlplane.convergence.desired import desire_network
from controlplane.errors import ParameterError
from controlplane.network import addresses, forwarding, staticnat
from controlplane.store.models import AsyncJob, Network, PublicIp, Vm


class EnableStaticNat(Params):
    ipaddressid: str = param("id of the public address", entity="IPAddress")
    virtualmachineid: str = param("id of the VM", entity="UserVm")
    networkid: str | None = param("network of the VM, that of the address unless given", default=None, entity="Network")
    vmguestip: str | None = param("address of the VM on that network", default=None)


class DisableStaticNat(Params):
    ipaddressid: str = param("id of the public address", entity="IPAddress")


class ListIpForwardingRules(ScopedListParams):
    id: str | None = param("id of the rule", default=None, entity="FirewallRule")
    ipaddressid: str | None = param("rules of this public address", default=None, entity="IPAddress")
    virtualmachineid: str | None = param("rules of this VM", default=None, entity="UserVm")


class IpForwardingRuleResponse(Response):
    """A port range of a static NAT address that is passed to the VM."""

    id: str = shown("id of the rule", ...)


@command(
    "enableStaticNat",
    description="Makes a public address that of one VM, in both directions",
    params=EnableStaticNat,
    event="STATICNAT.ENABLE",
)
def enable_static_nat(call: Call, params: EnableStaticNat) -> Success:
    address = call.lookup(PublicIp, params.ipaddressid, "ipaddressid")
    vm = call.lookup(Vm, params.virtualmachineid, "virtualmachineid")
    network = addresses.need_network(address)
    if params.networkid is not None and call.lookup(Network, params.networkid, "networkid").id != network.id:
        raise ParameterError(f"networkid: IP address {address.address} is associated with network {network.id}")
    target = forwarding.target_on(call.session, vm, network, params.vmguestip)
    if staticnat.enable(call.session, address, *target):
        call.event(
            f"enabled static NAT from {address.address} to VM {vm.name}",
            ("IpAddress", address.id),
            account_id=address.account_id,
        )
        wake_network(call, network.id, settle=True)
    return Success()


@command(
    "disableStaticNat",
    description="Ends static NAT of a public address; its firewall rules go with it",
    params=DisableStaticNat,
    is_async=True,
    event="STATICNAT.DISABLE",
)
def disable_static_nat(call: Call, params: DisableStaticNat) -> Async:
    address = call.lookup(PublicIp, params.ipaddressid, "ipaddressid")
    network = addresses.need_network(address)
    staticnat.disable(call.session, address)
    return Async(
        "IpAddress",
        address.id,
        f"disabling static NAT of {address.address}",
        target=desire_network(call.session, network.id),
        completion="staticnat.disabled",
        arguments={"address_id": address.id},
    )


@jobs.completion("staticnat.disabled")
def _disabled(session: Session, job: AsyncJob, *, address_id: str) -> Response:
    addresses.remove_revoked(session, address_id)
    return Success()


@command(
    "listIpForwardingRules",
    description="Lists port ranges of static NAT; none are needed, firewall rules say what reaches the VM",
    params=ListIpForwardingRules,
    response=IpForwardingRuleResponse,
    object_name="ipforwardingrule",
)
def list_ip_forwarding_rules(call: Call, params: ListIpForwardingRules) -> tuple[int, list[IpForwardingRuleResponse]]:
    # createIpForwardingRule, which would make one, does not exist; clients ask for the list all the same
    return 0, []
