"""TLS certificates of load balancer rules, as clients upload them."""

from __future__ import annotations

from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509 import Certificate

from controlplane.errors import ParameterError


@dataclass(frozen=True)
class Checked:
    """PEM texts that fit together; ``key`` is not encrypted. Its repr shows no key."""

    certificate: str
    chain: str | None
    key: str
    fingerprint: str

    def __repr__(self) -> str:
        return f"Checked({self.fingerprint})"


def check(certificate: str, key: str, chain: str | None, password: str | None) -> Checked:
    """Read what a client gave, or raise ParameterError: what is no PEM, and a key of another certificate."""
    leaf, *further = _certificates("certificate", certificate)
    above = [*further, *(_certificates("certchain", chain) if chain else ())]
    try:
        private = serialization.load_pem_private_key(key.encode(), password.encode() if password else None)
    except (ValueError, TypeError):
        raise ParameterError("privatekey: it is not a private key in PEM, or password does not open it") from None
    if not isinstance(private, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
        raise ParameterError("privatekey: only RSA and elliptic curve keys can be used")
    if _public(private.public_key()) != _public(leaf.public_key()):
        raise ParameterError("privatekey: it does not belong to the certificate")
    issued = leaf
    for issuer in above:
        try:
            issued.verify_directly_issued_by(issuer)
        except Exception:
            raise ParameterError("certchain: each certificate must have signed the one before it") from None
        issued = issuer
    return Checked(
        certificate=_text(leaf),
        chain="".join(map(_text, above)) or None,
        key=private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ).decode(),
        fingerprint=leaf.fingerprint(hashes.SHA256()).hex(":"),
    )


def _certificates(parameter: str, text: str) -> list[Certificate]:
    try:
        return x509.load_pem_x509_certificates(text.encode())
    except ValueError:
        raise ParameterError(f"{parameter}: it is not a certificate in PEM") from None


def _public(key: object) -> bytes:
    if not isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey):
        return b""
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def _text(certificate: Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()
