"""System VMs through the API, and the certificates they show."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from sqlalchemy import select

from controlplane.store.models import CustomCertificate, PublicIp, ServiceOffering, Zone
from controlplane.systemvms import certificates
from controlplane.systemvms import rows as systemvms
from tests.acting import ActingRuntime, Tenant


@pytest.fixture
def proxy(acting: ActingRuntime) -> str:
    with acting.database.transaction() as session:
        made = systemvms.create(session, session.scalars(select(Zone)).one(), "consoleproxy")
        made.state = "Running"
        return made.id


def test_listed_with_the_fields_that_clients_know(tenant: Tenant, proxy: str) -> None:
    listed = tenant.call("listSystemVms", systemvmtype="consoleproxy")
    [one] = listed["systemvm"]
    assert listed["count"] == 1
    assert (one["id"], one["name"], one["systemvmtype"], one["state"]) == (proxy, "v-1-VM", "consoleproxy", "Running")
    assert one["publicvlan"] == ["vlan://untagged"]
    assert (one["publicip"], one["publicnetmask"], one["gateway"]) == ("203.0.113.10", "255.255.255.0", "203.0.113.1")
    assert (one["linklocalip"], one["privateip"]) == ("169.254.1.1", "169.254.1.1")
    assert (one["agentstate"], one["activeviewersessions"]) == ("Up", 0)
    assert one["serviceofferingname"] == "System Offering For Console Proxy"
    assert tenant.call("listSystemVms", systemvmtype="secondarystoragevm") == {}
    assert tenant.call("listSystemVms", state="stopped") == {}


def test_users_have_no_say(bob: Tenant, proxy: str) -> None:
    for command in ("listSystemVms", "stopSystemVm", "destroySystemVm", "uploadCustomCertificate"):
        assert bob.call.error(command, id=proxy)["errorcode"] == 432


def test_power(tenant: Tenant, acting: ActingRuntime, proxy: str) -> None:
    assert tenant.run("stopSystemVm", id=proxy)["state"] == "Stopped"
    assert tenant.call.error("rebootSystemVm", id=proxy)["errorcode"] == 431
    assert tenant.run("startSystemVm", id=proxy)["state"] == "Running"
    assert tenant.run("rebootSystemVm", id=proxy, forced=True)["state"] == "Running"
    assert tenant.run("destroySystemVm", id=proxy)["state"] == "Destroyed"
    assert tenant.call("listSystemVms") == {}
    assert tenant.call.error("startSystemVm", id=proxy)["errorcode"] == 431
    # events are those of its kind
    types = {type for type, _ in tenant.events()}
    assert {"PROXY.CREATE", "PROXY.STOP", "PROXY.START", "PROXY.REBOOT", "PROXY.DESTROY"} <= types


def test_a_router_is_no_system_vm(tenant: Tenant, acting: ActingRuntime) -> None:
    tenant.vm(networkids=tenant.network()["id"])
    [router] = tenant.call("listRouters", listall=True)["router"]
    assert tenant.call.error("stopSystemVm", id=router["id"])["errorcode"] == 431
    assert tenant.call("listSystemVms") == {}


def test_another_offering(tenant: Tenant, acting: ActingRuntime, proxy: str) -> None:
    big = tenant.call(
        "createServiceOffering", name="big", memory=1024, cpunumber=2, issystem=True, systemvmtype="consoleproxy"
    )["serviceoffering"]["id"]
    assert tenant.run("scaleSystemVm", id=proxy, serviceofferingid=big)["serviceofferingname"] == "big"
    with acting.database.reading() as session:
        router = session.scalars(
            select(ServiceOffering.id).where(ServiceOffering.system_vm_type == "domainrouter")
        ).one()
    assert tenant.call.error("scaleSystemVm", id=proxy, serviceofferingid=router)["errorcode"] == 431
    # without a reboot only for one that is stopped
    assert tenant.call.error("changeServiceForSystemVm", id=proxy, serviceofferingid=big)["errorcode"] == 431
    tenant.run("stopSystemVm", id=proxy)
    answer = tenant.call.raw("changeServiceForSystemVm", id=proxy, serviceofferingid=big).json()
    assert answer["changeserviceforsystemvmresponse"]["systemvm"]["serviceofferingid"] == big


def test_its_address_is_nobody_else_s(tenant: Tenant, acting: ActingRuntime, proxy: str) -> None:
    with acting.database.reading() as session:
        address = session.scalars(select(PublicIp).where(PublicIp.appliance_id == proxy)).one()
    assert tenant.call("listPublicIpAddresses", listall=True) == {}
    assert "a system VM's" in tenant.call.error("disassociateIpAddress", id=address.id)["errortext"]
    taken = tenant.address(tenant.network()["id"])
    assert taken["ipaddress"] != address.address


# --- certificates ---------------------------------------------------------------------------------------------------

Key = ec.EllipticCurvePrivateKey


def signed(
    name: str,
    key: Key,
    issuer: str,
    signer: Key,
    *,
    authority: bool = False,
    names: tuple[str, ...] = (),
    days: int = 9,
) -> str:
    moment = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name.from_rfc4514_string(f"CN={name}"))
        .issuer_name(x509.Name.from_rfc4514_string(f"CN={issuer}"))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(moment - timedelta(days=10))
        .not_valid_after(moment + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
    )
    if names:
        builder = builder.add_extension(
            x509.SubjectAlternativeName([x509.DNSName(each) for each in names]), critical=False
        )
    return builder.sign(signer, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


def pem(key: Key, form: serialization.PrivateFormat = serialization.PrivateFormat.PKCS8) -> str:
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode()


ROOT, MIDDLE, SITE = (ec.generate_private_key(ec.SECP256R1()) for _ in range(3))
ROOT_PEM = signed("root", ROOT, "root", ROOT, authority=True)
MIDDLE_PEM = signed("middle", MIDDLE, "root", ROOT, authority=True)
NAMES = ("*.console.example.com",)
SITE_PEM = signed("site", SITE, "middle", MIDDLE, names=NAMES)
SUFFIX = "console.example.com"


def upload_chain(tenant: Tenant) -> None:
    tenant.run("uploadCustomCertificate", id=1, name="root", certificate=ROOT_PEM, domainsuffix=SUFFIX)
    tenant.run("uploadCustomCertificate", id=2, name="middle", certificate=MIDDLE_PEM, domainsuffix=SUFFIX)


def test_a_certificate_with_its_chain_in_several_calls(tenant: Tenant, acting: ActingRuntime, proxy: str) -> None:
    upload_chain(tenant)
    with acting.database.reading() as session:
        assert certificates.custom(session) is None, "nothing counts before the site's own is there"
    made = tenant.run("uploadCustomCertificate", certificate=SITE_PEM, privatekey=pem(SITE), domainsuffix=SUFFIX)
    assert SUFFIX in made["message"]
    assert ("show_certificates", {}) in [(name, arguments) for name, _, arguments in acting.started]
    with acting.database.reading() as session:
        shown = certificates.served(session, acting.secrets, proxy, f"203-0-113-10.{SUFFIX}")
        assert (shown.certificate, shown.chain, shown.key) == (SITE_PEM, MIDDLE_PEM, pem(SITE))
        assert pem(SITE) not in repr(shown)
        row = session.scalars(select(CustomCertificate).where(CustomCertificate.name == "")).one()
        assert row.private_key is not None and b"PRIVATE" not in row.private_key


@pytest.mark.parametrize(
    ("host", "good"),
    [(f"a.{SUFFIX}", True), (SUFFIX, False), (f"a.b.{SUFFIX}", False), ("203.0.113.10", False), ("example.com", False)],
)
def test_a_certificate_is_for_names_one_label_below(host: str, good: bool) -> None:
    assert certificates.covers(x509.load_pem_x509_certificate(SITE_PEM.encode()), host) is good


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"privatekey": pem(ROOT)}, "it does not belong to the certificate"),
        ({"privatekey": pem(SITE, serialization.PrivateFormat.TraditionalOpenSSL)}, "must be PKCS#8"),
        ({"privatekey": "-----BEGIN PRIVATE KEY-----\nbm8=\n-----END PRIVATE KEY-----"}, "not a private key"),
        ({"certificate": "nonsense"}, "not a certificate in PEM"),
        ({"domainsuffix": "other.example.com"}, "not for *.other.example.com"),
        ({"domainsuffix": "nonsense"}, "domainsuffix"),
        ({"certificate": signed("old", SITE, "middle", MIDDLE, names=NAMES, days=-1)}, "it is good from"),
        ({"certificate": signed("alien", SITE, "alien", SITE, names=NAMES)}, "must have signed the one before"),
        ({"name": "site"}, "has none"),
    ],
)
def test_a_certificate_that_does_not_fit_changes_nothing(
    tenant: Tenant, acting: ActingRuntime, change: dict[str, str], text: str
) -> None:
    upload_chain(tenant)
    given = {"certificate": SITE_PEM, "privatekey": pem(SITE), "domainsuffix": SUFFIX} | change
    error = tenant.call.error("uploadCustomCertificate", **given)
    assert error["errorcode"] == 431 and text in error["errortext"]
    assert "PRIVATE KEY" not in error["errortext"]
    with acting.database.reading() as session:
        assert certificates.custom(session) is None


def test_what_a_chain_is_made_of(tenant: Tenant) -> None:
    given = {"certificate": SITE_PEM, "domainsuffix": SUFFIX}
    assert (
        "no certificate of an authority"
        in tenant.call.error("uploadCustomCertificate", id=1, name="root", **given)["errortext"]
    )
    assert "name and id" in tenant.call.error("uploadCustomCertificate", **given)["errortext"]
    upload_chain(tenant)
    again = {"certificate": ROOT_PEM, "domainsuffix": SUFFIX}
    assert "place 2" in tenant.call.error("uploadCustomCertificate", id=2, name="other", **again)["errortext"]


def test_settings_take_domains_and_origins_only(tenant: Tenant) -> None:
    for name, good, bad in (
        ("consoleproxy.url.domain", "*.console.example.com", "*.com/"),
        ("secstorage.ssl.cert.domain", "*.storage.example.com", "nodot"),
        ("consoleproxy.origins", "https://a.example, https://b.example:8443", "https://a.example/path"),
        ("consoleproxy.frame.ancestors", "'self', https://*.example.com", "*"),
    ):
        assert tenant.call("updateConfiguration", name=name, value=good)["configuration"]["value"] == good
        assert tenant.call.error("updateConfiguration", name=name, value=bad)["errorcode"] == 431
        tenant.call("updateConfiguration", name=name, value="")
