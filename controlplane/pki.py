"""The control plane's own certificate authority: short certificates for appliances, and one for itself.

Nothing is revoked by list: an appliance that is gone is simply not renewed, and its certificate ends within days.
"""

from __future__ import annotations

import os
import ssl
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

#: name in the control plane's certificate; agents serve nobody else
CONTROL_PLANE = "control-plane"

AUTHORITY_LIFE = timedelta(days=3650)
LIFE = timedelta(days=7)
#: certificates count from a little before they are made, so that clocks need not agree to the second
SKEW = timedelta(hours=1)

#: of IKEv2 servers: clients of old macOS look for the second beside the first
_IKE_PURPOSES = (ExtendedKeyUsageOID.SERVER_AUTH, x509.ObjectIdentifier("1.3.6.1.5.5.8.2.2"))

#: OpenSSL's X509_V_FLAG_NO_CHECK_TIME (x509_vfy.h), which the ssl module has no name for
_NO_CHECK_TIME = 0x200000


@dataclass(frozen=True)
class Credentials:
    """A certificate and its private key, both PEM."""

    certificate: bytes
    key: bytes = field(repr=False)


def due(certificate: x509.Certificate) -> bool:
    """Whether less than half of the certificate's life is left, so that it is time for the next one."""
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return datetime.now(UTC) > begin + (end - begin) / 2


def write_private(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path`` (mode 0600) so that a crash leaves the old file or the new one."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


_PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey


def _key_pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _builder(subject: str, issuer: x509.Name, key: _PublicKey, life: timedelta) -> x509.CertificateBuilder:
    moment = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]))
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(moment - SKEW)
        .not_valid_after(moment + life)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


class Authority:
    """The CA of one control plane. Keys are EC P-256 unless said otherwise, signatures ECDSA with SHA-256."""

    def __init__(self, directory: Path) -> None:
        """Open the authority kept in ``directory``, or create it there (mode 0700, files 0600)."""
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._own_path = directory / "control-plane.pem"
        path = directory / "authority.pem"
        if not path.exists():
            self._create(path)
        # key and certificate are one file, so that a crash cannot leave one without the other
        content = path.read_bytes()
        key = serialization.load_pem_private_key(content, None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise ValueError(f"{path} does not hold an elliptic-curve key; restore it from a backup")
        self._key = key
        self._certificate = x509.load_pem_x509_certificate(content)

    @staticmethod
    def _create(path: Path) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Gatehouse authority")])
        certificate = (
            _builder("Gatehouse authority", name, key.public_key(), AUTHORITY_LIFE)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(sign_certificates=True), critical=True)
            .sign(key, hashes.SHA256())
        )
        write_private(path, _key_pem(key) + certificate.public_bytes(serialization.Encoding.PEM))

    @property
    def certificate(self) -> bytes:
        """The CA certificate (PEM): what appliances and the control plane trust."""
        return self._certificate.public_bytes(serialization.Encoding.PEM)

    def _sign(
        self,
        names: Sequence[x509.GeneralName],
        key: _PublicKey,
        purposes: Sequence[x509.ObjectIdentifier],
        life: timedelta,
    ) -> bytes:
        # a common name has at most 64 characters (RFC 5280 appendix A); what counts are the alternative names
        certificate = (
            _builder(str(names[0].value)[:64], self._certificate.subject, key, life)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(sign_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(purposes), critical=True)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        return certificate.public_bytes(serialization.Encoding.PEM)

    def issue(self, appliance_id: str, role: str, life: timedelta = LIFE) -> Credentials:
        """A server certificate for an appliance with a new key. Subject alternative names: its id and role."""
        key = ec.generate_private_key(ec.SECP256R1())
        return Credentials(self._certify(appliance_id, role, key.public_key(), life), _key_pem(key))

    def issue_site(self, names: Sequence[str], life: timedelta) -> Credentials:
        """A server certificate for browsers, with a new key: ``names`` are host names with a dot, or IPv4 addresses.

        With a dot, for an appliance's id has none: no agent can be played with it.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        if not names or any("." not in name for name in names):
            raise ValueError(f"a site's names must be full: {', '.join(names)}")
        alternatives = [_alternative(name) for name in names]
        certificate = self._sign(alternatives, key.public_key(), [ExtendedKeyUsageOID.SERVER_AUTH], life)
        return Credentials(certificate, _key_pem(key))

    def issue_peer(self, appliance_id: str, life: timedelta = LIFE) -> Credentials:
        """A certificate for an SSVM towards others, as server and as client, with a new key.

        Its name is the id with ``.peer``: no agent can be played with it, and no agent takes it for the control plane.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        purposes = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        names = [x509.DNSName(f"{appliance_id}.peer")]
        return Credentials(self._sign(names, key.public_key(), purposes, life), _key_pem(key))

    def issue_vpn(self, identity: str, life: timedelta) -> Credentials:
        """A certificate for an IKEv2 server, with a new key: ``identity`` is a host name with a dot or an IPv4 address.

        The key is RSA: Windows and Apple's devices take no elliptic curve from a server that asks for a password. An
        address is there as a name too, which is how some clients compare what they were told to call.
        """
        key = rsa.generate_private_key(65537, 2048)
        if "." not in identity:
            raise ValueError(f"a VPN server's name must be full: {identity}")
        names = list(dict.fromkeys((_alternative(identity), x509.DNSName(identity))))
        return Credentials(self._sign(names, key.public_key(), _IKE_PURPOSES, life), _key_pem(key))

    def renew(self, appliance_id: str, role: str, current: x509.Certificate, life: timedelta = LIFE) -> bytes:
        """The next certificate (PEM) for the key that ``current`` is for: no private key travels."""
        key = current.public_key()
        if not isinstance(key, ec.EllipticCurvePublicKey):
            raise ValueError(
                f"the certificate of {appliance_id} is not for an elliptic-curve key; rebuild the appliance"
            )
        return self._certify(appliance_id, role, key, life)

    def _certify(self, appliance_id: str, role: str, key: ec.EllipticCurvePublicKey, life: timedelta) -> bytes:
        if appliance_id == CONTROL_PLANE:
            raise ValueError(f"no appliance can have the id {CONTROL_PLANE}")
        # server use only: with this certificate an appliance cannot open another appliance's agent
        uri = f"gatehouse:{role}:{appliance_id}"
        return self._sign(_names(appliance_id, uri), key, [ExtendedKeyUsageOID.SERVER_AUTH], life)

    def client_context(self, *, check_time: bool = True) -> ssl.SSLContext:
        """TLS settings for calls to agents: our certificate, and trust in this authority alone.

        The certificate is renewed here when it is due. Without ``check_time`` an agent's certificate may have ended:
        only good for giving it the next one, when the control plane was away for longer than a certificate lives.
        """
        own = self._own_path
        if not own.exists() or due(x509.load_pem_x509_certificate(own.read_bytes())):
            key = ec.generate_private_key(ec.SECP256R1())
            uri = f"gatehouse:{CONTROL_PLANE}"
            names = _names(CONTROL_PLANE, uri)
            certificate = self._sign(names, key.public_key(), [ExtendedKeyUsageOID.CLIENT_AUTH], LIFE)
            write_private(own, _key_pem(key) + certificate)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_verify_locations(cadata=self.certificate.decode())
        context.load_cert_chain(own)
        if not check_time:
            context.verify_flags |= ssl.VerifyFlags(_NO_CHECK_TIME)
        return context


def _names(name: str, uri: str) -> list[x509.GeneralName]:
    return [x509.DNSName(name), x509.UniformResourceIdentifier(uri)]


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(IPv4Address(name))
    except ValueError:
        return x509.DNSName(name)


def _usage(*, sign_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not sign_certificates,
        key_cert_sign=sign_certificates,
        crl_sign=sign_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
