"""Remote access VPN as tenants and their people use it: from the API call to a guest's page, by a profile alone."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
from cs import CloudStack

from tests.netns.controlplane.cloud import INTERNET, INTERNET_PAGE, WEB, Cloud
from tests.netns.lab import Lab, Machine
from tests.netns.vpn.client import Ikev2Client
from tests.wait import wait_for

Answer = dict[str, Any]
PASSWORD = "correct horse; battery #1"


@pytest.fixture(scope="module")
def device(cloud: Cloud) -> Ikev2Client:
    """Somebody's computer on the internet."""
    lab = cast(Lab, SimpleNamespace(hypervisor=cloud.instances, patience=1))
    return Ikev2Client(Machine(lab, INTERNET, ""), server="", identity="", authority="")


def _files(profile: Answer, user: str) -> dict[str, str]:
    """What the profile says to put where."""
    return {
        "swanctl.conf": "include conf.d/*.conf\n",
        f"x509ca/{profile['cafilename']}": profile["cacertificate"],
        f"conf.d/{profile['filename']}": profile["content"],
        "conf.d/secret.conf": f'secrets {{\n  eap-me {{\n    id = {user}\n    secret = "{PASSWORD}"\n  }}\n}}\n',
    }


def _told(api: CloudStack, type: str) -> str:
    return "; ".join(event["description"] for event in api.listEvents(type=type).get("event", []))


def _connects(device: Ikev2Client, api: CloudStack, vpn: Answer, patience: int = 30) -> bool:
    """Whether ann gets in by a profile made now."""
    profile = api.getVpnClientProfile(id=vpn["id"], client="strongswan", username="ann")["vpnclientprofile"]
    return device.connect_by(_files(profile, "ann"), profile["filename"].removesuffix(".conf"), patience)


def test_a_person_gets_in_by_the_profile_and_out_when_removed(cloud: Cloud, device: Ikev2Client) -> None:
    api = cloud.tenant("acme")
    network = cloud.network(api, "web")
    guest = cloud.deploy(api, "vm1", network)
    page = f"http://{cloud.address(guest['id'])}/"
    cloud.serve_page(guest["id"], "a guest's page")
    [address] = api.listPublicIpAddresses(associatednetworkid=network["id"], issourcenat="true")["publicipaddress"]
    cloud.run(INTERNET, ["sh", "-c", f"echo {address['ipaddress']} vpn.example.org >>/etc/hosts"])
    api.addVpnUser(username="ann", password=PASSWORD)
    answer = api.createRemoteAccessVpn(publicipid=address["id"], servername="vpn.example.org", openfirewall="false")
    made = answer["remoteaccessvpn"]
    assert not _connects(device, api, made, patience=3)
    for port in (500, 4500):
        api.createFirewallRule(ipaddressid=address["id"], protocol="udp", startport=port, endport=port)
    assert _connects(device, api, made), device.log()
    assert cloud.fetch(INTERNET, page) == "a guest's page"
    api.deleteRemoteAccessVpn(publicipid=address["id"])
    wait_for(lambda: not device.connected, 15, "the session to end with the VPN")

    made = api.createRemoteAccessVpn(publicipid=address["id"])["remoteaccessvpn"]
    assert (made["state"], len(made["presharedkey"])) == ("Running", 24)
    api.addVpnUser(username="ben", password=PASSWORD)
    assert _connects(device, api, made), device.log()
    assert cloud.fetch(INTERNET, page) == "a guest's page"
    # all else goes its own way
    assert cloud.fetch(INTERNET, f"http://{WEB}/") == INTERNET_PAGE
    wait_for(lambda: "ann connected" in _told(api, "VPN.USER.CONNECT"), 30, "the event")
    [session] = api.listVpnUsers(username="ann")["vpnuser"][0]["session"]
    assert (session["protocol"], session["ipaddress"]) == ("ikev2", device.address)
    assert api.listRemoteAccessVpns()["remoteaccessvpn"][0]["session"] == [session]
    # somebody else's removal leaves the session alone
    api.removeVpnUser(username="ben")
    assert device.connected
    profile = api.getVpnClientProfile(id=made["id"], client="strongswan", username="ann")["vpnclientprofile"]
    api.removeVpnUser(username="ann")
    wait_for(lambda: not device.connected, 15, "the session to end")
    assert cloud.fetch(INTERNET, page) == ""
    assert not device.connect_by(_files(profile, "ann"), profile["filename"].removesuffix(".conf"))
    wait_for(lambda: "ann disconnected" in _told(api, "VPN.USER.DISCONNECT"), 30, "the event")
    assert api.listRemoteAccessVpns()["remoteaccessvpn"][0]["session"] == []
    assert not [secret for secret in (PASSWORD, made["presharedkey"]) if secret in cloud.text_log()]
    device.stop()
