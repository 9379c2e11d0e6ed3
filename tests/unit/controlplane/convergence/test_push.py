"""The agent client and the authority together, over real TLS inside the process."""

from __future__ import annotations

import json
import socket
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from appliance.schema.status import Status
from controlplane.convergence.push import (
    Agent,
    AgentClient,
    AgentUnreachableError,
    CertificateExpiredError,
    DocumentRefusedError,
    StaleDocumentError,
    content_digest,
)
from controlplane.pki import LIFE, Authority, due
from tests.unit.controlplane.agent_server import Answer, agent_server

STATUS = Status(id="r-1", role="router", version="1", started=1.0, generation=3, digest="d").model_dump_json().encode()
AGENT = Agent("r-1", "169.254.0.9")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("pki"))


def always(status: int, body: bytes) -> Answer:
    return lambda method, path, headers, request: (status, body)


def test_authority_survives_a_restart_and_keeps_its_files_private(tmp_path: Path) -> None:
    first = Authority(tmp_path / "pki")
    first.client_context()
    second = Authority(tmp_path / "pki")
    assert second.certificate == first.certificate
    assert (tmp_path / "pki").stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "pki").iterdir()} == {0o600}


def test_appliance_certificate_names_the_appliance_and_is_no_client_certificate(authority: Authority) -> None:
    certificate = x509.load_pem_x509_certificate(authority.issue("r-1", "router").certificate)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["r-1"]
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == ["gatehouse:router:r-1"]
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.SERVER_AUTH]
    assert certificate.not_valid_after_utc <= datetime.now(UTC) + LIFE
    with pytest.raises(ValueError, match="control-plane"):
        authority.issue("control-plane", "router")


def test_due_at_half_of_the_life(authority: Authority) -> None:
    assert not due(x509.load_pem_x509_certificate(authority.issue("r-1", "router").certificate))
    # valid from an hour ago for a minute more
    assert due(x509.load_pem_x509_certificate(authority.issue("r-1", "router", timedelta(minutes=1)).certificate))


def test_push_sends_digest_and_wait_and_returns_the_status(tmp_path: Path, authority: Authority) -> None:
    seen = []

    def answer(method: str, path: str, headers: dict[str, str], body: bytes) -> tuple[int, bytes]:
        seen.append((method, path, headers.get("prefer"), headers.get("content-digest"), body))
        return 200, STATUS

    with agent_server(tmp_path, authority, authority.issue("r-1", "router"), answer) as server:
        client = AgentClient(AGENT, authority, server.dial)
        assert client.push(b"{}", wait=5).generation == 3
        assert client.status().id == "r-1"
        client.close()
    # the digest of "{}" as in RFC 9530's own notation
    assert seen[0] == (
        "PUT",
        "/v1/state",
        "wait=5",
        "sha-256=:RBNvo1WzZ4oRRq0W9+hknpT7T8If536DEMBg9hyq/4o=:",
        b"{}",
    )
    assert content_digest(b"{}") == seen[0][3]
    assert seen[1][:2] == ("GET", "/v1/status")
    assert len(server.connections) == 1, "the second call uses the connection of the first"


def test_refusal_carries_the_problems(tmp_path: Path, authority: Authority) -> None:
    body = json.dumps(
        {"problems": [{"stage": "parse", "service": "nat", "field": "nat.forwards.3.ports", "message": "too big"}]}
    )
    with agent_server(tmp_path, authority, authority.issue("r-1", "router"), always(422, body.encode())) as server:
        client = AgentClient(AGENT, authority, server.dial)
        with pytest.raises(DocumentRefusedError, match=r"nat: nat.forwards.3.ports: too big") as caught:
            client.push(b"{}")
        client.close()
    assert caught.value.problems[0].field == "nat.forwards.3.ports"


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (409, b"older", StaleDocumentError),
        (500, b"oops", AgentUnreachableError),
        (200, b"not json", AgentUnreachableError),
        (422, b"not json", AgentUnreachableError),
    ],
)
def test_other_answers(tmp_path: Path, authority: Authority, status: int, body: bytes, error: type[Exception]) -> None:
    with agent_server(tmp_path, authority, authority.issue("r-1", "router"), always(status, body)) as server:
        client = AgentClient(AGENT, authority, server.dial)
        with pytest.raises(error):
            client.push(b"{}")
        client.close()


def test_a_certificate_of_another_appliance_or_authority_is_refused(tmp_path: Path, authority: Authority) -> None:
    stranger = Authority(tmp_path / "stranger")
    for credentials in (authority.issue("r-2", "router"), stranger.issue("r-1", "router")):
        with agent_server(tmp_path, authority, credentials, always(200, STATUS)) as server:
            client = AgentClient(AGENT, authority, server.dial)
            with pytest.raises(AgentUnreachableError, match="not who it should be"):
                client.status()
            client.close()


def test_an_agent_that_restarts_is_reached_again_on_a_new_connection(tmp_path: Path, authority: Authority) -> None:
    credentials = authority.issue("r-1", "router")
    target = {"port": 0}

    def dial(address: str, port: int, timeout: float) -> socket.socket:
        return socket.create_connection(("127.0.0.1", target["port"]), timeout)

    def closing(method: str, path: str, headers: dict[str, str], body: bytes) -> tuple[int, bytes]:
        return 200, STATUS

    client = AgentClient(AGENT, authority, dial)
    with agent_server(tmp_path, authority, credentials, closing) as server:
        target["port"] = server.port
        client.status()
    sock = client._connection.sock if client._connection else None
    assert isinstance(sock, ssl.SSLSocket)
    sock.shutdown(socket.SHUT_RDWR)  # what the kernel does when the agent's process dies
    with pytest.raises(AgentUnreachableError, match="does not answer"):
        client.status()
    with agent_server(tmp_path, authority, credentials, closing) as server:
        target["port"] = server.port
        assert client.status().generation == 3
    client.close()


def test_renewal_of_an_ended_certificate_for_the_same_key(tmp_path: Path, authority: Authority) -> None:
    taken = []

    def answer(method: str, path: str, headers: dict[str, str], body: bytes) -> tuple[int, bytes]:
        taken.append((method, path, body))
        return 204, b""

    ended = authority.issue("r-1", "router", timedelta(minutes=-1))
    with agent_server(tmp_path, authority, ended, answer) as server:
        client = AgentClient(AGENT, authority, server.dial)
        with pytest.raises(CertificateExpiredError):
            client.status()
        client.renew_certificate("router")
        client.close()
    method, path, body = taken[0]
    fresh = x509.load_pem_x509_certificate(body)
    assert (method, path) == ("PUT", "/v1/certificate")
    assert fresh.public_key() == x509.load_pem_x509_certificate(ended.certificate).public_key()
    assert fresh.not_valid_after_utc > datetime.now(UTC) + LIFE / 2


def test_no_connection_is_a_clear_error(authority: Authority) -> None:
    def dial(address: str, port: int, timeout: float) -> socket.socket:
        raise ConnectionRefusedError(111, "Connection refused")

    with pytest.raises(AgentUnreachableError, match=r"r-1 at 169\.254\.0\.9:9443 does not answer"):
        AgentClient(AGENT, authority, dial).status()
