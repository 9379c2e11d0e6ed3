"""Certificates of the agent: taken when they fit, refused when not, and read again when the files change."""

from __future__ import annotations

import os
import ssl
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509

from appliance.agent.tls import CertificateRefusedError, Certificates, is_control_plane
from controlplane.pki import Authority


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture
def identity(authority: Authority, tmp_path: Path) -> Path:
    put(tmp_path, authority)
    return tmp_path


def put(directory: Path, authority: Authority) -> None:
    credentials = authority.issue("r-1", "router")
    (directory / "ca.pem").write_bytes(authority.certificate)
    (directory / "cert.pem").write_bytes(credentials.certificate)
    (directory / "key.pem").write_bytes(credentials.key)


def renewed(authority: Authority, identity: Path, life: timedelta = timedelta(days=7)) -> bytes:
    current = x509.load_pem_x509_certificate((identity / "cert.pem").read_bytes())
    return authority.renew("r-1", "router", current, life)


def serial(context: ssl.SSLContext, authority: Authority) -> str:
    """Serial number of the certificate that a client of ``context`` sees, after a whole handshake in memory."""
    client = authority.client_context()
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    near = client.wrap_bio(to_client, to_server, server_hostname="r-1")
    far = context.wrap_bio(to_server, to_client, server_side=True)
    for end in (near, far, near, far):
        try:
            end.do_handshake()
        except ssl.SSLWantReadError:
            continue
    assert is_control_plane(far.getpeercert())  # type: ignore[arg-type]
    peer = near.getpeercert()
    assert peer is not None
    return str(peer["serialNumber"])


def test_a_new_certificate_is_used_from_the_next_connection_on(authority: Authority, identity: Path) -> None:
    certificates = Certificates(identity)
    before = serial(certificates.context(), authority)
    certificates.install(renewed(authority, identity))
    after = serial(certificates.context(), authority)
    assert after != before
    assert serial(Certificates(identity).context(), authority) == after
    assert (identity / "cert.pem").stat().st_mode & 0o777 == 0o600


def test_what_does_not_fit_is_refused_and_nothing_changes(
    authority: Authority, identity: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    certificates = Certificates(identity)
    before, content = serial(certificates.context(), authority), (identity / "cert.pem").read_bytes()
    stranger = Authority(tmp_path_factory.mktemp("other"))
    candidates = {
        "another key": authority.issue("r-1", "router").certificate,
        "another authority": renewed(stranger, identity),
        "ended": renewed(authority, identity, timedelta(minutes=-5)),
        "no certificate": b"-----BEGIN CERTIFICATE-----\n",
        "empty": b"",
    }
    for name, candidate in candidates.items():
        with pytest.raises(CertificateRefusedError):
            certificates.install(candidate)
        assert serial(certificates.context(), authority) == before, name
    assert (identity / "cert.pem").read_bytes() == content
    assert {path.name for path in identity.iterdir()} == {"ca.pem", "cert.pem", "key.pem"}


def test_files_that_are_replaced_one_by_one_are_read_when_they_fit(authority: Authority, identity: Path) -> None:
    certificates = Certificates(identity)
    before = serial(certificates.context(), authority)
    credentials = authority.issue("r-1", "router")
    (identity / "cert.pem").write_bytes(credentials.certificate)
    os.utime(identity / "cert.pem", (1, 1))
    assert serial(certificates.context(), authority) == before
    (identity / "key.pem").write_bytes(credentials.key)
    os.utime(identity / "key.pem", (1, 1))
    assert serial(certificates.context(), authority) != before


@pytest.mark.parametrize(
    "peer",
    [
        None,
        {},
        {"subject": ((("commonName", "control-plane"),),)},
        {"subjectAltName": (("DNS", "r-1"), ("URI", "gatehouse:control-plane"))},
        {"subjectAltName": (("DNS", "control-plane.example"), ("email", "control-plane"))},
    ],
)
def test_others_are_not_the_control_plane(peer: dict[str, object] | None) -> None:
    assert not is_control_plane(peer)
