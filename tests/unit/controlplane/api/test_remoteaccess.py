"""Remote access VPNs and VPN users."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from ipaddress import IPv4Address
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from sqlalchemy import select, update

from controlplane.network import remoteaccess
from controlplane.store.models import (
    Account,
    AsyncJob,
    Network,
    NetworkOffering,
    RemoteAccessVpn,
    UsageSpan,
    VpnUser,
    now,
)
from controlplane.usage.types import UsageType
from controlplane.vpnprofiles.clients import PROFILES
from tests.acting import Tenant

PASSWORD = "correct horse; battery #1"


@dataclass
class Site:
    """A network with a guest, so with a router and a source-NAT address."""

    tenant: Tenant
    network: str
    address: dict[str, Any]

    def create(self, **params: Any) -> dict[str, Any]:
        made: dict[str, Any] = self.tenant.run("createRemoteAccessVpn", publicipid=self.address["id"], **params)
        return made

    def refused(self, **params: Any) -> str:
        text: str = self.tenant.call.error("createRemoteAccessVpn", publicipid=self.address["id"], **params)[
            "errortext"
        ]
        return text

    def sent(self) -> list[dict[str, Any]]:
        """Remote access as the router would be sent now; the document must be a valid one."""
        found: list[dict[str, Any]] = self.tenant.router_state(self.network).get("vpn", {}).get("remote", [])
        return found

    def report(
        self, *numbers: int, event: str = "connect", detail: str = "", sessions: Sequence[dict[str, str]] = ()
    ) -> bool:
        """Take in a router's report whose log has these entries; whether it was news."""
        entry = {"event": event, "user": "ann", "protocol": "ikev2", "client": "10.1.2.6", "peer": "198.51.100.7"}
        log = [{"number": number, "at": "2030-01-01T00:00:00Z", **entry} for number in numbers]
        remote = {self.address["ipaddress"]: {"sessions": list(sessions), "log": log, "detail": detail}}
        return self.tenant.take_reports(self.network, {"vpn": {"connections": {}, "remote": remote}})

    def users(self) -> list[str]:
        """Names of the users that the router would be sent now."""
        [one] = self.sent()
        return [user["name"] for user in one.get("users", ())]


def _site(tenant: Tenant, **params: Any) -> Site:
    network = tenant.network(**params)["id"]
    tenant.vm(networkids=network)
    [address] = tenant.call("listPublicIpAddresses", issourcenat="true", associatednetworkid=network)["publicipaddress"]
    return Site(tenant, network, address)


@pytest.fixture
def site(tenant: Tenant) -> Site:
    return _site(tenant)


def test_from_the_api_to_the_document(site: Site) -> None:
    site.tenant.run("addVpnUser", username="ann", password=PASSWORD)
    made = site.create()
    assert (made["state"], made["iprange"], made["publicip"]) == (
        "Running",
        "10.1.2.2-10.1.2.8",
        site.address["ipaddress"],
    )
    assert len(made["presharedkey"]) == 24
    assert made["servername"] == made["publicip"]
    [sent] = site.sent()
    assert sent["address"] == made["publicip"]
    assert sent["psk"] == made["presharedkey"]
    assert sent["clients"] == {"first": "10.1.2.1", "last": "10.1.2.8"}
    assert (sent["networks"], sent["dns"]) == (["10.1.1.0/24"], "10.1.1.1")
    assert sent["users"] == [{"name": "ann", "password": PASSWORD}]
    assert sent["ikev2"]["identity"] == made["publicip"]
    assert (
        x509.load_pem_x509_certificate(sent["ikev2"]["ca"].encode()).subject.rfc4514_string()
        == "CN=Gatehouse authority"
    )


def test_open_to_everybody_or_to_whom_the_firewall_lets_in(site: Site) -> None:
    site.create(openfirewall="false")
    assert site.sent()[0]["open"] is False
    site.tenant.run("deleteRemoteAccessVpn", publicipid=site.address["id"])
    site.create()
    assert site.sent()[0].get("open", True) is True


def test_secrets_are_sealed_at_rest(site: Site) -> None:
    site.tenant.run("addVpnUser", username="ann", password=PASSWORD)
    made = site.create()
    [listed] = site.tenant.call("listRemoteAccessVpns")["remoteaccessvpn"]
    assert listed["presharedkey"] == made["presharedkey"]
    assert PASSWORD not in str(site.tenant.call("listVpnUsers"))
    with site.tenant.runtime.database.reading() as session:
        results = [str(job.result) for job in session.scalars(select(AsyncJob))]
        assert not [text for text in results if made["presharedkey"] in text or PASSWORD in text]
        row, user = session.scalars(select(RemoteAccessVpn)).one(), session.scalars(select(VpnUser)).one()
        assert made["presharedkey"].encode() not in row.psk
        assert b"PRIVATE KEY" not in row.private_key
        assert PASSWORD.encode() not in user.password


def test_the_certificate_is_for_the_address_or_a_name(site: Site) -> None:
    def shown() -> tuple[x509.Certificate, x509.SubjectAlternativeName]:
        leaf = x509.load_pem_x509_certificate(site.sent()[0]["ikev2"]["certificate"].encode())
        return leaf, leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value

    made = site.create()
    leaf, names = shown()
    assert isinstance(leaf.public_key(), RSAPublicKey)
    assert names.get_values_for_type(x509.IPAddress) == [IPv4Address(made["publicip"])]
    assert names.get_values_for_type(x509.DNSName) == [made["publicip"]]
    leaf.verify_directly_issued_by(x509.load_pem_x509_certificate(site.tenant.runtime.authority.certificate))
    site.tenant.run("updateRemoteAccessVpn", id=made["id"], servername="VPN.example.org")
    _, names = shown()
    assert names.get_values_for_type(x509.DNSName) == ["vpn.example.org"]
    assert site.sent()[0]["ikev2"]["identity"] == "vpn.example.org"
    changed = site.tenant.run("updateRemoteAccessVpn", id=made["id"], servername=made["publicip"])
    assert changed["servername"] == made["publicip"]
    for bad in ("localhost", "198.51.100.7", "-a.example.org"):
        assert (
            "servername" in site.tenant.call.error("updateRemoteAccessVpn", id=made["id"], servername=bad)["errortext"]
        )


def test_certificates_are_renewed_before_they_end(site: Site) -> None:
    site.create()
    runtime = site.tenant.runtime

    def renewed() -> list[str]:
        with runtime.database.transaction() as session:
            return remoteaccess.renew(session, runtime.secrets, runtime.authority)

    before = site.sent()[0]["ikev2"]["certificate"]
    assert renewed() == []
    with runtime.database.transaction() as session:
        session.execute(update(RemoteAccessVpn).values(expires=now() + timedelta(days=40)))
    assert renewed() == [site.network]
    assert site.sent()[0]["ikev2"]["certificate"] != before
    assert renewed() == []


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ("10.1.1.200-10.1.2.8", "overlaps 10.1.1.0/24 of the guest network"),
        ("10.1.2.8-10.1.2.1", "3 to 4096 addresses"),
        ("10.1.2.1-10.1.2.2", "3 to 4096 addresses"),
        ("10.1.2.1-10.2.2.1", "3 to 4096 addresses"),
        ("8.8.8.1-8.8.8.9", "private"),
        ("10.1.2.0/24", "not an IPv4 address"),
    ],
)
def test_ranges_that_are_refused(site: Site, given: str, complaint: str) -> None:
    text = site.refused(iprange=given)
    assert "iprange" in text
    assert complaint in text


def test_ranges_beside_site_to_site_connections(site: Site) -> None:
    call, run = site.tenant.call, site.tenant.run
    near = run("createVpnGateway", networkid=site.network)["id"]
    far = {"gateway": "198.51.100.9", "ipsecpsk": "k", "cidrlist": "10.1.2.0/24"}
    customer = run("createVpnCustomerGateway", **far)["id"]
    connection = run("createVpnConnection", s2scustomergatewayid=customer, s2svpngatewayid=near)["id"]
    assert f"overlaps 10.1.2.0/24 of VPN connection {connection}" in site.refused()
    run("deleteVpnConnection", id=connection)
    site.create()
    assert (
        "remote access VPN"
        in call.error("createVpnConnection", s2scustomergatewayid=customer, s2svpngatewayid=near)["errortext"]
    )


def test_settings(site: Site) -> None:
    call = site.tenant.call
    call("updateConfiguration", name="remote.access.vpn.psk.length", value=40)
    with site.tenant.runtime.database.reading() as session:
        owner = session.scalars(select(Account.id).join(Network).where(Network.id == site.network)).one()
    call(
        "updateConfiguration", name="remote.access.vpn.client.ip.range", value="172.30.0.1-172.30.0.9", accountid=owner
    )
    made = site.create()
    assert (len(made["presharedkey"]), made["iprange"]) == (40, "172.30.0.2-172.30.0.9")
    for name, value in (("psk.length", 7), ("psk.length", 257), ("client.ip.range", "10.0.0.0/8"), ("user.limit", -1)):
        assert call.error("updateConfiguration", name=f"remote.access.vpn.{name}", value=value)["errorcode"] == 431


def test_one_for_a_network_and_only_on_its_source_nat_address(site: Site) -> None:
    site.create()
    assert "is there already" in site.refused()
    other = site.tenant.address(site.network)
    answer = site.tenant.call.error("createRemoteAccessVpn", publicipid=other["id"])
    assert "source-NAT" in answer["errortext"]


def test_an_offering_without_the_service(site: Site) -> None:
    with site.tenant.runtime.database.transaction() as session:
        for offering in session.scalars(select(NetworkOffering)):
            offering.services = {name: entry for name, entry in offering.services.items() if name != "Vpn"}
    assert "does not offer Vpn" in site.refused()
    answer = site.tenant.call.error("createVpnGateway", networkid=site.network)
    assert "does not offer Vpn" in answer["errortext"]


def test_ports_are_for_one_at_a_time(site: Site) -> None:
    call, run = site.tenant.call, site.tenant.run
    [guest] = call("listVirtualMachines")["virtualmachine"]
    forward = {"ipaddressid": site.address["id"], "virtualmachineid": guest["id"], "protocol": "udp"}
    rules = [
        run("createPortForwardingRule", publicport=port, privateport=port, **forward)["id"] for port in (1701, 1702)
    ]
    assert (
        f"UDP port 1701 of {site.address['ipaddress']} is in use by port forwarding rule {rules[0]}" in site.refused()
    )
    run("deletePortForwardingRule", id=rules[0])
    site.create()
    for first, last in ((500, 500), (1700, 1701), (4000, 5000)):
        ports = {"publicport": first, "publicendport": last, "privateport": first, "privateendport": last}
        answer = call.error("createPortForwardingRule", **ports, **forward)
        assert "in use by remote access VPN" in answer["errortext"]
    run("createPortForwardingRule", publicport=1703, privateport=1, **forward)
    run("createPortForwardingRule", publicport=500, privateport=500, **(forward | {"protocol": "tcp"}))


def test_deleted(site: Site) -> None:
    run = site.tenant.run
    run("addVpnUser", username="ann", password=PASSWORD)
    site.create()
    run("deleteRemoteAccessVpn", publicipid=site.address["id"])
    assert site.sent() == []
    assert site.tenant.call("listRemoteAccessVpns") == {}
    assert site.tenant.call("listVpnUsers")["count"] == 1
    answer = site.tenant.call.error("deleteRemoteAccessVpn", publicipid=site.address["id"])
    assert "has no remote access VPN" in answer["errortext"]
    site.create()


def test_one_that_the_router_refuses_is_taken_back(site: Site) -> None:
    site.tenant.runtime.fail = "no"
    site.tenant.call("createRemoteAccessVpn", publicipid=site.address["id"])
    assert site.tenant.call("listRemoteAccessVpns") == {}


def test_it_goes_with_its_network(site: Site) -> None:
    site.create()
    [guest] = site.tenant.call("listVirtualMachines")["virtualmachine"]
    site.tenant.run("destroyVirtualMachine", id=guest["id"], expunge="true")
    site.tenant.run("deleteNetwork", id=site.network)
    assert site.tenant.call("listRemoteAccessVpns") == {}


def test_users_are_for_all_of_an_account(site: Site) -> None:
    second = _site(site.tenant, name="second", gateway="10.9.1.1", netmask="255.255.255.0")
    site.create()
    second.create()
    added = site.tenant.run("addVpnUser", username="ann", password=PASSWORD)
    assert (added["username"], added["state"], "password" in added) == ("ann", "Active", False)
    assert site.users() == second.users() == ["ann"]
    site.tenant.run("removeVpnUser", username="ann")
    assert site.users() == second.users() == []
    assert site.tenant.call("listVpnUsers") == {}
    # both routers were waited for
    waited = [arguments["routers"] for name, _, arguments in site.tenant.runtime.started if name == "reach_routers"]
    assert [len(routers) for routers in waited] == [2, 2]


def test_users_of_others(site: Site, bob: Tenant) -> None:
    bob.run("addVpnUser", username="ann", password=PASSWORD)
    site.create()
    assert site.users() == []
    assert bob.call("listRemoteAccessVpns", listall="true") == {}
    assert bob.call.error("createRemoteAccessVpn", publicipid=site.address["id"])["errorcode"] == 531
    assert "has no VPN user ann" in site.tenant.call.error("removeVpnUser", username="ann")["errortext"]
    account = bob.call("listAccounts")["account"][0]
    site.tenant.run("removeVpnUser", username="ann", account="bob", domainid=account["domainid"])
    assert bob.call("listVpnUsers") == {}


def test_names_are_taken_once_in_any_case(site: Site) -> None:
    site.tenant.run("addVpnUser", username="ann", password=PASSWORD)
    assert "is there already" in site.tenant.call.error("addVpnUser", username="Ann", password=PASSWORD)["errortext"]


def test_the_limit(site: Site) -> None:
    site.tenant.call("updateConfiguration", name="remote.access.vpn.user.limit", value=2)
    for name in ("ann", "ben"):
        site.tenant.run("addVpnUser", username=name, password=PASSWORD)
    answer = site.tenant.call.error("addVpnUser", username="cid", password=PASSWORD)
    assert (answer["errorcode"], "may have 2" in answer["errortext"]) == (532, True)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("username", "ab"),
        ("username", "-ann"),
        ("username", "ann smith"),
        ("username", "ann*"),
        ("username", "änn"),
        ("password", "ab"),
        ("password", "@file"),
        ("password", 'with"quote'),
        ("password", "with'quote"),
        ("password", "with\\backslash"),
        ("password", "pässword"),
    ],
)
def test_what_daemons_would_not_take(site: Site, field: str, value: str) -> None:
    params = {"username": "ann", "password": PASSWORD} | {field: value}
    answer = site.tenant.call.error("addVpnUser", **params)
    assert (answer["errorcode"], answer["errortext"].startswith(f"{field}: ")) == (431, True)


def test_events_and_usage(site: Site) -> None:
    site.create()
    user = site.tenant.run("addVpnUser", username="ann", password=PASSWORD)["id"]
    site.tenant.run("removeVpnUser", username="ann")
    site.tenant.run("deleteRemoteAccessVpn", publicipid=site.address["id"])
    told = [event for event in site.tenant.events() if event[0].startswith("VPN.")]
    assert told == [
        (type, state)
        for type in ("VPN.REMOTE.ACCESS.CREATE", "VPN.USER.ADD", "VPN.USER.REMOVE", "VPN.REMOTE.ACCESS.DESTROY")
        for state in ("Scheduled", "Completed")
    ]
    with site.tenant.runtime.database.reading() as session:
        [span] = session.scalars(select(UsageSpan).where(UsageSpan.usage_type == UsageType.VPN_USERS))
        assert (span.subject_id, span.details) == (user, {"name": "ann"})
        assert span.end is not None


def test_each_visit_is_an_event_once(site: Site) -> None:
    def told() -> list[str]:
        return [type for type, _ in site.tenant.events() if type in ("VPN.USER.CONNECT", "VPN.USER.DISCONNECT")]

    site.create()
    base = 1_900_000_000_000  # beyond 32 bits, as numbers from a clock are
    assert site.report(base + 1, base + 2)
    assert not site.report(base + 1, base + 2)
    # more than the store holds
    assert not site.report(2**63)
    assert told() == ["VPN.USER.CONNECT"] * 2
    assert site.report(base + 2, base + 3, event="disconnect")
    assert told() == ["VPN.USER.CONNECT", "VPN.USER.CONNECT", "VPN.USER.DISCONNECT"]
    [event] = site.tenant.call("listEvents", type="VPN.USER.DISCONNECT")["event"]
    assert "ann disconnected" in event["description"]
    assert "198.51.100.7" in event["description"]


def test_who_is_connected_is_shown_with_vpns_and_users(site: Site) -> None:
    site.create()
    for name in ("ann", "ben"):
        site.tenant.run("addVpnUser", username=name, password=PASSWORD)
    ann = {"user": "Ann", "protocol": "l2tp", "client": "10.1.2.3", "peer": "198.51.100.7"}
    ann["since"] = "2030-01-01T10:00:00Z"
    assert site.report(sessions=[ann, {**ann, "since": "yesterday"}, {**ann, "since": "2030-01-01T10:00:00"}])
    assert not site.report(sessions=[ann])
    [vpn] = site.tenant.call("listRemoteAccessVpns")["remoteaccessvpn"]
    shown = {
        "username": "Ann",
        "publicip": site.address["ipaddress"],
        "protocol": "l2tp",
        "ipaddress": "10.1.2.3",
        "sourceip": "198.51.100.7",
        "connected": "2030-01-01T10:00:00+0000",
    }
    assert vpn["session"] == [shown]
    users = {user["username"]: user["session"] for user in site.tenant.call("listVpnUsers")["vpnuser"]}
    assert users == {"ann": [shown], "ben": []}
    assert site.report()
    assert site.tenant.call("listRemoteAccessVpns")["remoteaccessvpn"][0]["session"] == []


def test_what_is_not_served_is_told(site: Site) -> None:
    site.create()
    assert site.report(detail="no L2TP: the kernel has no IPsec")
    assert not site.report(detail="no L2TP: the kernel has no IPsec")
    [listed] = site.tenant.call("listRemoteAccessVpns")["remoteaccessvpn"]
    assert listed["statedetail"] == "no L2TP: the kernel has no IPsec"
    assert site.report()
    assert "statedetail" not in site.tenant.call("listRemoteAccessVpns")["remoteaccessvpn"][0]


def test_profiles(site: Site, bob: Tenant) -> None:
    site.tenant.run("addVpnUser", username="ann", password=PASSWORD)
    made = site.create(servername="vpn.example.org")
    call = site.tenant.call
    for client, protocol in PROFILES:
        got = call("getVpnClientProfile", id=made["id"], client=client, protocol=protocol, username="ann")
        profile = got["vpnclientprofile"]
        assert PASSWORD not in profile["content"]
        assert ("cacertificate" in profile) == (protocol == "ikev2")
        key = made["presharedkey"]
        written = base64.b64encode(key.encode()).decode() if client == "apple" else key
        assert (written in profile["content"]) == (protocol == "l2tp")
        assert ("vpn.example.org" if protocol == "ikev2" else made["publicip"]) in profile["content"]
        assert profile["filename"].startswith("net-")
    answer = call.error("getVpnClientProfile", id=made["id"], client="android", protocol="l2tp")
    assert "l2tp is there for windows, apple, networkmanager" in answer["errortext"]
    answer = call.error("getVpnClientProfile", id=made["id"], client="apple", username="ben")
    assert "no VPN user ben" in answer["errortext"]
    assert bob.call.error("getVpnClientProfile", id=made["id"], client="apple")["errorcode"] == 531


def test_what_is_not_for_display_is_for_administrators(site: Site, bob: Tenant) -> None:
    network = bob.network()["id"]
    bob.vm(networkids=network)
    [address] = bob.call("listPublicIpAddresses", issourcenat="true")["publicipaddress"]
    made = bob.run("createRemoteAccessVpn", publicipid=address["id"], fordisplay="false")
    assert bob.call("listRemoteAccessVpns") == {}
    assert site.tenant.call("listRemoteAccessVpns", listall="true")["count"] == 1
    assert site.tenant.call("listRemoteAccessVpns", listall="true", fordisplay="true") == {}
    bob.run("updateRemoteAccessVpn", id=made["id"], fordisplay="true")
    assert bob.call("listRemoteAccessVpns")["count"] == 1


def test_an_account_that_is_deleted_takes_its_users_along(tenant: Tenant, bob: Tenant) -> None:
    bob.run("addVpnUser", username="ann", password=PASSWORD)
    [account] = tenant.call("listAccounts", name="bob", listall="true")["account"]
    tenant.run("deleteAccount", id=account["id"])
    with tenant.runtime.database.reading() as session:
        assert session.scalars(select(VpnUser)).all() == []


def test_offerings(tenant: Tenant) -> None:
    [service] = [one for one in tenant.call("listSupportedNetworkServices")["networkservice"] if one["name"] == "Vpn"]
    assert service["provider"][0]["name"] == "VirtualRouter"
    for offering in tenant.call("listNetworkOfferings", listall="true")["networkoffering"]:
        offered = [one["name"] for one in offering["service"]]
        assert ("Vpn" in offered) == (offering["guestiptype"] == "Isolated")
