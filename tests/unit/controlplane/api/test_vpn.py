"""Site-to-site VPN: customer gateways, VPN gateways and connections."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from sqlalchemy import select

from controlplane.store.models import AsyncJob, VpnCustomerGateway
from router.services.vpn.model import EspPolicy, IkePolicy, SiteConnection
from tests.acting import Tenant

FAR = {"gateway": "198.51.100.9", "cidrlist": "192.168.1.0/24,192.168.2.0/24", "ipsecpsk": "a secret key"}


@dataclass
class Site:
    """A network with a guest, so with a router."""

    tenant: Tenant
    network: str

    def far(self, **params: Any) -> dict[str, Any]:
        made: dict[str, Any] = self.tenant.run("createVpnCustomerGateway", **(FAR | params))
        return made

    def gateway(self) -> dict[str, Any]:
        made: dict[str, Any] = self.tenant.run("createVpnGateway", networkid=self.network)
        return made

    def connect(self, **params: Any) -> dict[str, Any]:
        far, near = self.far(**params), self.gateway()
        made: dict[str, Any] = self.tenant.run(
            "createVpnConnection", s2scustomergatewayid=far["id"], s2svpngatewayid=near["id"]
        )
        return made

    def connections(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.tenant.call("listVpnConnections").get("vpnconnection", [])
        return found

    def document(self) -> list[dict[str, Any]]:
        """The connections that the router would be sent now; the document must be a valid one."""
        found: list[dict[str, Any]] = self.tenant.router_state(self.network).get("vpn", {}).get("connections", [])
        return found

    def report(self, id: str, state: str, detail: str = "") -> bool:
        """Take in what the router says of a connection; whether it was news."""
        return self.tenant.take_reports(
            self.network, {"vpn": {"connections": {id: {"state": state, "detail": detail}}}}
        )


@pytest.fixture
def site(tenant: Tenant) -> Site:
    network = tenant.network()["id"]
    tenant.vm(networkids=network)
    return Site(tenant, network)


def test_a_connection_from_the_api_to_the_document(site: Site) -> None:
    made = site.connect(ikepolicy="aes128-sha1;modp1536", esppolicy="aes128-sha1", ikeversion="ikev1", dpd="true")
    assert (made["state"], made["gateway"], made["passive"]) == ("Pending", "198.51.100.9", False)
    [sent] = site.document()
    assert (sent["id"], sent["peer"], sent["version"], sent["dpd"]) == (made["id"], "198.51.100.9", "ikev1", 30)
    assert sent["ike"] == {"encryption": "aes128", "hash": "sha1", "group": "modp1536"}
    assert sent["esp"] == {"encryption": "aes128", "hash": "sha1"}
    assert sent["local"] == made["publicip"]
    assert (sent["remote_networks"], sent["psk"]) == (["192.168.1.0/24", "192.168.2.0/24"], "a secret key")


def test_modern_choices_unless_asked(site: Site) -> None:
    made = site.connect()
    assert (made["ikepolicy"], made["esppolicy"]) == ("aes256-sha256;modp2048", "aes256-sha256;modp2048")
    [sent] = site.document()
    assert sent["esp"]["group"] == "modp2048"


@pytest.mark.parametrize(
    ("version", "ike", "esp"),
    [
        ("ikev1", "3des-md5;modp1024", "3des-md5"),
        ("ike", "aes128-sha1", "aes128-sha1;modp1536"),
        ("ikev2", "chacha20poly1305-sha512;curve25519", "aes256gcm16;ecp384"),
        ("ikev2", "aes256gcm16-sha384", "aes128gcm16"),
    ],
)
def test_policies_arrive_as_they_were_given(site: Site, version: str, ike: str, esp: str) -> None:
    site.connect(ikeversion=version, ikepolicy=ike, esppolicy=esp)
    [sent] = site.document()
    told = SiteConnection.model_validate(sent)

    def text(policy: IkePolicy | EspPolicy) -> str:
        return "-".join(filter(None, (policy.encryption, policy.hash))) + (f";{policy.group}" if policy.group else "")

    assert (text(told.ike), text(told.esp)) == (ike, esp)


def test_a_far_end_behind_a_nat(site: Site) -> None:
    site.connect(peerid="192.168.9.9")
    [sent] = site.document()
    assert (sent["peer"], sent["peer_id"]) == ("198.51.100.9", "192.168.9.9")
    assert site.connections()[0]["peerid"] == "192.168.9.9"


def test_a_silent_far_end_is_asked_sooner_with_dead_peer_detection(site: Site) -> None:
    far = site.connect(dpd="true")["s2scustomergatewayid"]
    assert site.document()[0]["dpd"] == 30
    site.report(site.connections()[0]["id"], "Error")
    site.tenant.run("updateVpnCustomerGateway", id=far, dpd="false", **FAR)
    assert site.document()[0]["dpd"] == 120
    assert "peer_id" not in site.document()[0]


def test_the_key_is_in_lists_and_nowhere_else(site: Site) -> None:
    made = site.connect()
    assert "ipsecpsk" not in made
    [listed] = site.connections()
    assert listed["ipsecpsk"] == "a secret key"
    [far] = site.tenant.call("listVpnCustomerGateways")["vpncustomergateway"]
    assert far["ipsecpsk"] == "a secret key"
    with site.tenant.runtime.database.reading() as session:
        assert all("a secret key" not in str(job.result) for job in session.scalars(select(AsyncJob)))
        assert b"a secret key" not in session.scalars(select(VpnCustomerGateway.psk)).one()


def test_states_and_events(site: Site) -> None:
    made = site.connect()
    assert site.report(made["id"], "Connected")
    assert not site.report(made["id"], "Connected")
    assert site.connections()[0]["state"] == "Connected"
    assert site.report(made["id"], "Error", "the peer refused the preshared key")
    [listed] = site.connections()
    assert (listed["state"], listed["statedetail"]) == ("Error", "the peer refused the preshared key")
    assert site.report(made["id"], "Connecting")
    told = [type for type, _ in site.tenant.events() if type in ("VPN.S2S.CONNECTED", "VPN.S2S.DISCONNECTED")]
    assert told == ["VPN.S2S.CONNECTED", "VPN.S2S.DISCONNECTED"]


def test_a_router_speaks_of_its_own_connections_only(site: Site) -> None:
    made = site.connect()
    other = site.tenant.network(name="other")["id"]
    site.tenant.vm(networkids=other)
    told = {"connections": {made["id"]: {"state": "Connected"}}}
    site.tenant.take_reports(other, {"vpn": told})
    assert site.connections()[0]["state"] == "Pending"
    # nor does one thing pass for another
    site.tenant.take_reports(site.network, {"vpn": {**told, "remote": {made["id"]: {"sessions": []}}}})
    assert site.connections()[0]["state"] == "Pending"


def test_reset(site: Site) -> None:
    made = site.connect()
    site.report(made["id"], "Connected")
    before = site.document()[0].get("serial", 0)
    assert site.tenant.run("resetVpnConnection", id=made["id"])["state"] == "Pending"
    assert site.document()[0]["serial"] == before + 1
    # the router says the same as before the reset: that is news
    assert site.report(made["id"], "Connected")
    assert site.connections()[0]["state"] == "Connected"


def test_update_of_a_connection(site: Site) -> None:
    made = site.connect()
    assert site.tenant.run("updateVpnConnection", id=made["id"], passive="true")["passive"]
    assert site.document()[0]["passive"]


def test_a_customer_gateway_changes_only_without_connection_or_in_error(site: Site) -> None:
    made = site.connect()
    change = {**FAR, "id": made["s2scustomergatewayid"], "cidrlist": "192.168.9.0/24"}
    assert site.tenant.call.error("updateVpnCustomerGateway", **change)["errorcode"] == 536
    site.report(made["id"], "Error")
    assert site.tenant.run("updateVpnCustomerGateway", **change)["cidrlist"] == "192.168.9.0/24"
    assert site.document()[0]["remote_networks"] == ["192.168.9.0/24"]


def test_deleting_in_order(site: Site) -> None:
    made = site.connect()
    far, near = made["s2scustomergatewayid"], made["s2svpngatewayid"]
    assert site.tenant.call.error("deleteVpnCustomerGateway", id=far)["errorcode"] == 536
    assert site.tenant.call.error("deleteVpnGateway", id=near)["errorcode"] == 536
    site.tenant.run("deleteVpnConnection", id=made["id"])
    assert (site.connections(), site.document()) == ([], [])
    site.tenant.run("deleteVpnGateway", id=near)
    site.tenant.run("deleteVpnCustomerGateway", id=far)
    assert site.tenant.call("listVpnGateways") == {}
    assert site.tenant.call("listVpnCustomerGateways") == {}


def test_a_connection_that_the_router_refuses_is_gone(site: Site) -> None:
    far, near = site.far(), site.gateway()
    site.tenant.runtime.fail = "refused"
    site.tenant.call("createVpnConnection", s2scustomergatewayid=far["id"], s2svpngatewayid=near["id"])
    assert (site.connections(), site.document()) == ([], [])


@pytest.mark.parametrize(
    ("params", "text"),
    [
        ({"gateway": "vpn.example"}, "is not an IPv4 address"),
        ({"cidrlist": "8.8.8.0/24"}, "is not private"),
        ({"cidrlist": "192.168.0.0/16,192.168.1.0/24"}, "overlaps 192.168.0.0/16"),
        ({"cidrlist": "192.168.1.1"}, "is not an IPv4 CIDR"),
        ({"gateway": "10.0.0.1", "cidrlist": "10.0.0.0/8"}, "through itself"),
        ({"ikepolicy": "aes256"}, "lacks the hash"),
        ({"ikepolicy": "blowfish-sha1;modp1024"}, "no cipher blowfish"),
        ({"ikepolicy": "aes256-sha3;modp1024"}, "no hash sha3"),
        ({"ikepolicy": "aes256-sha1;modp768"}, "no group modp768"),
        ({"ikepolicy": "aes256-sha1;"}, "write it like"),
        ({"ikepolicy": "aes256gcm16-sha256;ecp256"}, "ikeversion=ikev2"),
        ({"esppolicy": "aes256gcm16-sha256"}, "goes without sha256"),
        ({"esppolicy": "aes256"}, "lacks the hash"),
        ({"esppolicy": "chacha20poly1305", "ikeversion": "ikev1"}, "ikeversion=ikev2"),
        ({"peerid": "%any"}, "would let other far ends in"),
        ({"ikelifetime": 59}, "ikelifetime"),
        ({"esplifetime": 86401}, "esplifetime"),
        ({"ikeversion": "ikev3"}, "ikeversion"),
    ],
)
def test_far_ends_that_are_refused(site: Site, params: dict[str, Any], text: str) -> None:
    error = site.tenant.call.error("createVpnCustomerGateway", **(FAR | params))
    assert error["errorcode"] == 431
    assert text in error["errortext"]


def test_what_does_not_fit_together(site: Site) -> None:
    made = site.connect()
    near = made["s2svpngatewayid"]
    error = site.tenant.call.error

    def refused(**params: Any) -> str:
        far = site.far(**params)
        failed = error("createVpnConnection", s2scustomergatewayid=far["id"], s2svpngatewayid=near)
        assert failed["errorcode"] == 537
        text: str = failed["errortext"]
        return text

    cidr = site.tenant.call("listNetworks", id=site.network)["network"][0]["cidr"]
    assert "of the network" in refused(name="a", gateway="198.51.100.10", cidrlist=cidr)
    assert "overlaps 192.168.1.0/24" in refused(name="b", gateway="198.51.100.11", cidrlist="192.168.1.128/25")
    assert "already" in refused(name="c", cidrlist="192.168.3.0/24")
    again = error("createVpnConnection", s2scustomergatewayid=made["s2scustomergatewayid"], s2svpngatewayid=near)
    assert again["errorcode"] == 537
    assert error("createVpnGateway", networkid=site.network)["errorcode"] == 537
    assert error("createVpnCustomerGateway", **(FAR | {"name": "a"}))["errorcode"] == 537


def test_ports_of_a_gateway_are_not_forwarded(site: Site) -> None:
    site.gateway()
    [address] = site.tenant.call("listPublicIpAddresses", issourcenat="true")["publicipaddress"]
    [vm] = site.tenant.call("listVirtualMachines")["virtualmachine"]
    forward = {"ipaddressid": address["id"], "virtualmachineid": vm["id"], "privateport": 500, "publicport": 500}
    assert site.tenant.call.error("createPortForwardingRule", protocol="udp", **forward)["errorcode"] == 537
    site.tenant.run("createPortForwardingRule", protocol="tcp", **forward)
