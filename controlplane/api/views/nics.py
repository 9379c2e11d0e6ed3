"""NICs of guests and routers as the API shows them."""

from __future__ import annotations

from collections.abc import Iterable

from controlplane.api.command import Response, shown
from controlplane.network import guestranges
from controlplane.store.models import Nic


class SecondaryIpResponse(Response):
    """A further address of a NIC."""

    id: str = shown("id of the secondary address", ...)
    ipaddress: str = shown("the address", ...)


class NicResponse(Response):
    """One NIC."""

    id: str = shown("id of the NIC", ...)
    networkid: str | None = shown("id of its network")
    networkname: str | None = shown("name of its network")
    netmask: str | None = shown("netmask of the network")
    gateway: str | None = shown("gateway of the network")
    ipaddress: str | None = shown("its address")
    macaddress: str = shown("its MAC address", ...)
    traffictype: str = shown("kind of traffic", "Guest")
    type: str | None = shown("Isolated or Shared")
    isdefault: bool = shown("the VM's default route goes this way", False)
    deviceid: str = shown("its number in the VM, from 0", ...)
    virtualmachineid: str | None = shown("id of the VM")
    secondaryip: list[SecondaryIpResponse] = shown("further addresses", [])
    extradhcpoption: list[str] = shown("further DHCP options", [])


def show_nics(nics: Iterable[Nic]) -> list[NicResponse]:
    """Guests' NICs; ``Nic.network`` and its offering should be loaded already."""
    return [_show_nic(nic, guestranges.placement(nic.network, nic.address)) for nic in nics]


def _show_nic(nic: Nic, place: guestranges.Placement) -> NicResponse:
    return NicResponse(
        id=nic.id,
        networkid=nic.network_id,
        networkname=nic.network.name,
        netmask=place.netmask,
        gateway=place.gateway,
        ipaddress=nic.address,
        macaddress=nic.mac,
        type=nic.network.offering.guest_ip_type,
        isdefault=nic.is_default,
        deviceid=str(nic.device_id),
        virtualmachineid=nic.vm_id,
        secondaryip=[SecondaryIpResponse(id=row.id, ipaddress=row.address) for row in nic.secondary],
    )
