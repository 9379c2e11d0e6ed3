"""Remote access VPN as tenants and their people use it: from the API call to a guest's page, by a profile alone."""

from __future__ import annotations

import time
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
    lab = cast(Lab, SimpleNamespace(hypervisor=cloud.instances))
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


def test_a_person_gets_in_by_the_profile_and_out_when_removed(cloud: Cloud, device: Ikev2Client) -> None:
    api = cloud.tenant("acme")
    network = cloud.network(api, "web")
    guest = cloud.deploy(api, "vm1", network)
    target = cloud.address(guest["id"])
    cloud.serve_page(guest["id"], "a guest's page")
    page = f"http://{target}/"
    [address] = api.listPublicIpAddresses(associatednetworkid=network["id"], issourcenat="true")["publicipaddress"]
    made = api.createRemoteAccessVpn(publicipid=address["id"])["remoteaccessvpn"]
    assert (made["state"], len(made["presharedkey"])) == ("Running", 24)
    for name in ("ann", "ben"):
        api.addVpnUser(username=name, password=PASSWORD)
    profile = api.getVpnClientProfile(id=made["id"], client="strongswan", username="ann")["vpnclientprofile"]
    assert device.connect_by(_files(profile, "ann"), profile["filename"].removesuffix(".conf")), device.log()
    assert cloud.fetch(INTERNET, page) == "a guest's page"
    # all else goes its own way
    assert cloud.fetch(INTERNET, f"http://{WEB}/") == INTERNET_PAGE
    wait_for(lambda: "ann connected" in _told(api, "VPN.USER.CONNECT"), 20, "the event")
    # somebody else's removal leaves the session alone
    api.removeVpnUser(username="ben")
    assert device.connected
    begun = time.monotonic()
    api.removeVpnUser(username="ann")
    took = time.monotonic() - begun
    wait_for(lambda: not device.connected, 5, f"the session to end, {took:.2f} s after the call")
    assert cloud.fetch(INTERNET, page) == ""
    assert not device.connect_by(_files(profile, "ann"), profile["filename"].removesuffix(".conf"))
    wait_for(lambda: "ann disconnected" in _told(api, "VPN.USER.DISCONNECT"), 20, "the event")
    device.stop()
    api.addVpnUser(username="ann", password=PASSWORD)
    api.updateRemoteAccessVpn(id=made["id"], servername="vpn.example.org")
    cloud.run(INTERNET, ["sh", "-c", f"echo {made['publicip']} vpn.example.org >>/etc/hosts"])
    profile = api.getVpnClientProfile(id=made["id"], client="strongswan", username="ann")["vpnclientprofile"]
    assert device.connect_by(_files(profile, "ann"), profile["filename"].removesuffix(".conf")), device.log()
    assert cloud.fetch(INTERNET, page) == "a guest's page"
    api.deleteRemoteAccessVpn(publicipid=address["id"])
    wait_for(lambda: not device.connected, 10, "the session to end with the VPN")
    device.stop()
    secrets = (PASSWORD, made["presharedkey"])
    assert not [secret for secret in secrets if secret in cloud.text_log()]
