"""Site-to-site VPN as tenants use it: two networks of one cloud, each the other's far end."""

from __future__ import annotations

from typing import Any

import pytest
from cs import CloudStack

from tests.netns.controlplane.cloud import Cloud
from tests.wait import wait_for

Answer = dict[str, Any]
KEY = "a key that both ends know"


@pytest.fixture(scope="module")
def api(cloud: Cloud) -> CloudStack:
    return cloud.admin


def _network(cloud: Cloud, api: CloudStack, name: str, third: int) -> tuple[Answer, str, Answer]:
    """A network 10.<third>.1.0/24 with a guest and a VPN gateway; network, the guest's id, gateway."""
    network = cloud.network(api, name, gateway=f"10.{third}.1.1", netmask="255.255.255.0")
    guest = cloud.deploy(api, f"vm-{name}", network)
    cloud.address(guest["id"])
    return network, guest["id"], api.createVpnGateway(networkid=network["id"])["vpngateway"]


def _connect(api: CloudStack, near: Answer, far: Answer, cidr: str, **params: Any) -> Answer:
    customer = api.createVpnCustomerGateway(
        name=f"to-{far['publicip']}", gateway=far["publicip"], cidrlist=cidr, ipsecpsk=KEY, **params
    )["vpncustomergateway"]
    made: Answer = api.createVpnConnection(s2scustomergatewayid=customer["id"], s2svpngatewayid=near["id"])
    return made["vpnconnection"]  # type: ignore[no-any-return]


def _state(api: CloudStack, connection: Answer) -> str:
    [found] = api.listVpnConnections(id=connection["id"])["vpnconnection"]
    state: str = found["state"]
    return state


def test_two_networks(cloud: Cloud, api: CloudStack) -> None:
    _, here, near = _network(cloud, api, "here", 11)
    _, there, far = _network(cloud, api, "there", 12)
    [target] = [nic["ipaddress"] for nic in api.listVirtualMachines(id=there)["virtualmachine"][0]["nic"]]
    argv = ["busybox", "ping", "-c", "1", "-W", "1", target]

    def reaches() -> bool:
        return cloud.run(here, argv, check=False).returncode == 0

    first = _connect(api, near, far, "10.12.1.0/24", ikeversion="ikev2", dpd="true")
    assert not reaches()
    second = _connect(api, far, near, "10.11.1.0/24", ikeversion="ikev2")
    wait_for(reaches, 20, "an echo from the other network")
    for connection in (first, second):
        wait_for(lambda id=connection: _state(api, id) == "Connected", 20, "Connected in the API")  # type: ignore[misc]
    assert KEY not in cloud.text_log()
    api.resetVpnConnection(id=first["id"])
    wait_for(reaches, 20, "the tunnel to be back")
    wait_for(lambda: _state(api, first) == "Connected", 20, "Connected in the API")
    api.deleteVpnConnection(id=second["id"])
    wait_for(lambda: not reaches(), 10, "the tunnel to end")
    # told at once, or noticed by the check for dead peers when that message was lost
    wait_for(lambda: _state(api, first) != "Connected", 120, "the loss to be in the API")
    types = [event["type"] for event in api.listEvents(pagesize=200, page=1)["event"]]
    assert "VPN.S2S.CONNECTED" in types
    assert "VPN.S2S.DISCONNECTED" in types
    api.deleteVpnConnection(id=first["id"])
    api.deleteVpnGateway(id=near["id"])
    api.deleteVpnCustomerGateway(id=first["s2scustomergatewayid"])
