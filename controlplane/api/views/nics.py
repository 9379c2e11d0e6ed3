"""NICs of guests and routers as the API shows them."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Network

from controlplane.api.command import Response, shown
from controlplane.store.models import Nic


class NicResponse(Response):
    """One NIC."""

    id: str = shown("the ID of the nic", ...)
    networkid: str | None = shown("the ID of the corresponding network")
    networkname: str | None = shown("the name of the corresponding network")
    netmask: str | None = shown("the netmask of the nic")
    gateway: str | None = shown("the gateway of the nic")
    ipaddress: str | None = shown("the ip address of the nic")
    macaddress: str = shown("the MAC address of the nic", ...)
    traffictype: str = shown("the traffic type of the nic", "Guest")
    type: str | None = shown("the type of the nic")
    isdefault: bool = shown("true if nic is default, false otherwise", False)
    deviceid: str = shown("device id for the network when plugged into the virtual machine", ...)
    virtualmachineid: str | None = shown("Id of the vm to which the nic belongs")
    secondaryip: list[str] = shown("the secondary IPv4 addresses of the nic", [])
    extradhcpoption: list[str] = shown("the extra dhcp options of the nic", [])


def show_nics(nics: Iterable[Nic]) -> list[NicResponse]:
    """Guests' NICs; ``Nic.network`` and its offering should be loaded already."""
    return [
        NicResponse(
            id=nic.id,
            networkid=nic.network_id,
            networkname=nic.network.name,
            netmask=str(IPv4Network(nic.network.cidr).netmask),
            gateway=nic.network.gateway,
            ipaddress=nic.address,
            macaddress=nic.mac,
            type=nic.network.offering.guest_ip_type,
            isdefault=nic.is_default,
            deviceid=str(nic.device_id),
            virtualmachineid=nic.vm_id,
        )
        for nic in nics
    ]
