"""The agent as its peers see it: who gets in, what it answers, and that nobody holds it up."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from controlplane.convergence.push import DocumentRefusedError, StaleDocumentError
from controlplane.pki import LIFE, Authority
from tests.netns.engine.documents import forward, small_network
from tests.netns.lab import Lab, Router
from tests.wait import wait_for

PORT = 9443


@pytest.fixture(scope="module")
def state(lab: Lab) -> dict[str, Any]:
    return small_network(lab)


@pytest.fixture(scope="module")
def router(lab: Lab, state: dict[str, Any]) -> Router:
    return lab.router(state)


def dial(router: Router) -> socket.socket:
    return router.lab.hypervisor.connect(router.address, PORT, 5)


def context(authority: Authority, certificate: Path | None = None) -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname = False
    made.load_verify_locations(cadata=authority.certificate.decode())
    if certificate is not None:
        made.load_cert_chain(certificate)
    return made


def request(router: Router, tls: ssl.SSLContext, head: bytes = b"GET /v1/status HTTP/1.1\r\nHost: x\r\n\r\n") -> bytes:
    """Everything the agent sends back; b"" when it refuses the connection."""
    with dial(router) as raw:
        try:
            with tls.wrap_socket(raw) as sock:
                sock.sendall(head)
                return sock.recv(65536)
        except (ssl.SSLError, ConnectionError):
            return b""


def write_identity(path: Path, authority: Authority, name: str, purpose: Any) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.write_bytes(pem + authority._sign([x509.DNSName(name)], key.public_key(), [purpose], LIFE))
    return path


CLIENT, SERVER = ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH


def test_the_control_plane_gets_in(router: Router, lab: Lab, tmp_path: Path) -> None:
    own = write_identity(tmp_path / "own.pem", lab.authority, "control-plane", CLIENT)
    assert request(router, context(lab.authority, own)).startswith(b"HTTP/1.1 200")


def test_a_stranger_without_a_certificate_gets_nowhere(router: Router, lab: Lab) -> None:
    assert request(router, context(lab.authority)) == b""


def test_the_control_plane_of_another_authority_gets_nowhere(router: Router, lab: Lab, tmp_path: Path) -> None:
    other = Authority(tmp_path / "ca")
    forged = write_identity(tmp_path / "forged.pem", other, "control-plane", CLIENT)
    assert request(router, context(lab.authority, forged)) == b""


def test_another_appliances_certificate_gets_nowhere(router: Router, lab: Lab, tmp_path: Path) -> None:
    credentials = lab.authority.issue("r-77", "router")
    (tmp_path / "r-77.pem").write_bytes(credentials.key + credentials.certificate)
    assert request(router, context(lab.authority, tmp_path / "r-77.pem")) == b""


def test_a_client_certificate_with_another_name_is_forbidden(router: Router, lab: Lab, tmp_path: Path) -> None:
    other = write_identity(tmp_path / "other.pem", lab.authority, "r-77", CLIENT)
    assert request(router, context(lab.authority, other)).startswith(b"HTTP/1.1 403")


def test_a_server_certificate_in_the_control_planes_name_gets_nowhere(router: Router, lab: Lab, tmp_path: Path) -> None:
    other = write_identity(tmp_path / "other.pem", lab.authority, "control-plane", SERVER)
    assert request(router, context(lab.authority, other)) == b""


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1:DeprecationWarning")
def test_old_tls_is_refused(router: Router, lab: Lab, tmp_path: Path) -> None:
    own = write_identity(tmp_path / "own.pem", lab.authority, "control-plane", CLIENT)
    tls = context(lab.authority, own)
    tls.set_ciphers("ALL:@SECLEVEL=0")
    tls.minimum_version = tls.maximum_version = ssl.TLSVersion.TLSv1_1
    assert request(router, tls) == b""


def test_guests_and_the_public_side_cannot_reach_it(router: Router, lab: Lab) -> None:
    guest = lab.guest("guest-n1", address="10.1.1.99/24", gateway="10.1.1.1")
    outside = lab.host("outside", "public-p1", ["203.0.113.200/24"])
    wait_for(lambda: guest.ping("10.1.1.1"), 5, "the guest to reach its gateway")
    assert not guest.connects("10.1.1.1", PORT)
    assert not guest.connects(router.address, PORT)
    assert not outside.connects("203.0.113.5", PORT)
    outside.run(["ip", "route", "add", "169.254.0.0/16", "via", "203.0.113.5"])
    assert not outside.connects(router.address, PORT)


def test_strangers_who_say_nothing_hold_nobody_up(router: Router, lab: Lab) -> None:
    with ExitStack() as stack:
        for number in range(300):
            sock = stack.enter_context(dial(router))
            if number % 3 == 1:
                sock.sendall(b"GET / HTTP/1.1\r\n")
            elif number % 3 == 2:
                sock.sendall(b"\x16\x03\x01\x02\x00\x01")  # the first bytes of a ClientHello
        router.agent.close()
        begin = time.monotonic()
        assert router.status().generation
        assert time.monotonic() - begin < 2


def test_idle_strangers_are_dropped(router: Router) -> None:
    with dial(router) as sock:
        sock.settimeout(15)
        assert sock.recv(1) == b""


@pytest.fixture
def wire(router: Router, lab: Lab, tmp_path: Path) -> Iterator[http.client.HTTPConnection]:
    """A bare HTTP connection of the control plane."""
    own = write_identity(tmp_path / "own.pem", lab.authority, "control-plane", CLIENT)
    connection = http.client.HTTPConnection(router.address, PORT, timeout=20)
    connection.sock = context(lab.authority, own).wrap_socket(dial(router))
    yield connection
    connection.close()


def test_unknown_paths_and_methods(wire: http.client.HTTPConnection) -> None:
    for method, path, status in (("GET", "/", 404), ("POST", "/v1/state", 405), ("GET", "/v1/../etc/passwd", 404)):
        wire.request(method, path)
        response = wire.getresponse()
        assert (response.status, bool(response.read())) == (status, True)


def test_a_body_that_is_too_long_is_refused(wire: http.client.HTTPConnection) -> None:
    wire.putrequest("PUT", "/v1/state")
    wire.putheader("Content-Length", str(65 << 20))
    wire.endheaders()
    assert wire.getresponse().status == 413


def test_a_wrong_digest_is_refused(wire: http.client.HTTPConnection, router: Router, state: dict[str, Any]) -> None:
    document = router.document(state)
    digest = "sha-256=:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=:"
    wire.request("PUT", "/v1/state", document, {"Content-Digest": digest})
    response = wire.getresponse()
    assert (response.status, b"Content-Digest" in response.read()) == (400, True)
    assert router.status().generation < router.generation


@pytest.mark.parametrize(
    "head",
    [
        b"GET /v1/status\r\n\r\n",
        b"\x00\xff\xfe\r\n\r\n",
        b"PUT /v1/state HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
        b"GET /v1/status HTTP/1.1\r\nHost: x\r\nA: " + b"x" * 100_000 + b"\r\n\r\n",
    ],
)
def test_broken_requests_of_the_control_plane_are_answered_with_4xx(
    wire: http.client.HTTPConnection, router: Router, head: bytes
) -> None:
    wire.sock.sendall(head)
    assert wire.sock.recv(12)[9:10] == b"4"
    assert router.status()


def refused(router: Router, raw: dict[str, Any]) -> list[str]:
    before = router.status()
    with pytest.raises(DocumentRefusedError) as caught:
        router.push_document(json.dumps(raw).encode())
    after = router.status()
    assert (after.generation, after.digest) == (before.generation, before.digest)
    return [problem.field for problem in caught.value.problems]


def test_bad_documents_are_refused_with_the_field(router: Router, state: dict[str, Any]) -> None:
    good = json.loads(router.document(state))
    ruleset = router.run(["nft", "list", "ruleset"]).stdout
    assert refused(router, good | {"kind": "ssvm"}) == ["kind"]
    assert refused(router, good | {"extra": 1}) == ["extra"]
    assert refused(router, good | {"generation": "7"}) == ["generation"]
    bad = json.loads(json.dumps(good))
    bad["state"]["nat"]["forwards"] = [forward(80), forward(81) | {"ports": {"first": 9, "last": 8}}]
    assert refused(router, bad) == ["nat.forwards.1.ports"]
    bad["state"]["nat"]["forwards"] = [forward(80) | {"address": "198.51.100.1"}]
    assert refused(router, bad)[0].startswith("nat.forwards.0")
    with pytest.raises(DocumentRefusedError, match="not JSON"):
        router.push_document(b"{" * 100_000)
    assert router.run(["nft", "list", "ruleset"]).stdout == ruleset


def test_older_generations_and_other_appliances_documents_are_refused(router: Router, state: dict[str, Any]) -> None:
    router.push(state)
    with pytest.raises(StaleDocumentError):
        router.push_document(router.document(state).replace(router.id.encode(), b"r-other"))
    router.push(state)
    good = json.loads(router.document(state))
    with pytest.raises(StaleDocumentError):
        router.push_document(json.dumps(good | {"generation": router.generation - 2}).encode())
    router.generation -= 1
    with pytest.raises(StaleDocumentError, match="another document"):
        router.push_document(json.dumps(good | {"generation": router.generation}, indent=3).encode())


def test_the_newest_generation_wins(router: Router, state: dict[str, Any]) -> None:
    for _ in range(5):
        status = router.push_document(router.document(state), wait=0)
    assert status.applying is None or status.applying <= router.generation
    wait_for(lambda: router.status().generation == router.generation, 10, "the newest generation")


def fingerprint(router: Router) -> tuple[str, str, dict[int, str]]:
    """What any work of the engine would change: the kernel's ruleset generation, times of files, processes."""
    code = "from appliance.netfilter.kernel import Netfilter; print(Netfilter().generation())"
    generation = router.run([sys.executable, "-c", code]).stdout
    times = router.run(["find", "/etc/gatehouse", "/var/lib/gatehouse", "-printf", "%p %T@ %C@\\n"]).stdout
    return generation, times, router.processes()


def test_the_same_document_twice_does_nothing_the_second_time(router: Router, state: dict[str, Any]) -> None:
    document = router.document(state)
    first = router.push_document(document)
    before = fingerprint(router)
    second = router.push_document(document)
    assert first.attempt is not None
    assert second.attempt is not None
    assert (second.attempt.outcome, second.generation) == ("applied", first.generation)
    assert second.attempt.seconds < 0.05
    assert fingerprint(router) == before


def test_health_metrics_and_reports(router: Router) -> None:
    health = router.wait_healthy()
    assert {"interfaces", "dhcp", "nat", "firewall"} <= health.services.keys()
    metrics = router.metrics()
    assert f"gatehouse_generation {router.status().generation}\n" in metrics
    assert 'gatehouse_service_healthy{service="dhcp"} 1\n' in metrics
    assert 'gatehouse_unit_resident_bytes{unit="dnsmasq"}' in metrics


def test_the_certificate_is_replaced_without_a_restart(router: Router) -> None:
    assert router.status()
    old, started = router.agent.certificate(), router.status().started
    router.agent.renew_certificate("router")
    router.agent.close()
    assert router.status().started == started
    new = router.agent.certificate()
    assert old is not None
    assert new is not None
    assert new.serial_number != old.serial_number
    # also after a restart
    router.kill_agent()
    wait_for(lambda: router.status().started != started, 15, "the next agent")
    again = router.agent.certificate()
    assert again is not None
    assert again.serial_number == new.serial_number


def test_a_certificate_for_another_key_is_not_taken(wire: http.client.HTTPConnection, router: Router, lab: Lab) -> None:
    other = lab.authority.issue(router.id, "router")
    for body in (other.certificate, b"", b"garbage", other.key):
        wire.request("PUT", "/v1/certificate", body)
        response = wire.getresponse()
        response.read()
        assert response.status == 422
    router.agent.close()
    assert router.status()
