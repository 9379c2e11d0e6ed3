"""Certificates that system VMs show to browsers: an uploaded one where it fits, else one of our own authority."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from sqlalchemy import select
from sqlalchemy.orm import Session

from controlplane.errors import ParameterError
from controlplane.network.certificates import check
from controlplane.pki import Authority
from controlplane.secrets import Secrets
from controlplane.store.models import ApplianceCertificate, CustomCertificate, now

#: browsers take certificates of at most 398 days; the next one is made at half of this
LIFE = timedelta(days=90)

#: name of the row that is the site's own certificate
SITE = ""


@dataclass(frozen=True)
class ServedCertificate:
    """What a system VM shows: PEM texts."""

    certificate: str
    chain: str
    key: str = field(repr=False)


def ensure(
    session: Session, secrets: Secrets, authority: Authority, appliance_id: str, subjects: tuple[str, ...]
) -> bool:
    """See to it that a system VM has a certificate of our authority for ``subjects``; whether a new one was made."""
    row = session.get(ApplianceCertificate, appliance_id)
    if row is not None and row.names == list(subjects) and row.expires - now() > LIFE / 2:
        return False
    made = authority.issue_site(subjects, LIFE)
    if row is None:
        row = ApplianceCertificate(appliance_id=appliance_id)
        session.add(row)
    row.names = list(subjects)
    row.certificate = made.certificate.decode()
    row.private_key = secrets.seal(made.key.decode())
    row.expires = now() + LIFE
    session.flush()
    return True


def served(session: Session, secrets: Secrets, appliance_id: str, host: str) -> ServedCertificate:
    """What the system VM known as ``host`` shows. Raises NoResultFound when ``ensure`` was never called for it."""
    site = custom(session)
    if site is not None and site.private_key is not None:
        leaf, *above = x509.load_pem_x509_certificates(site.certificate.encode())
        if covers(leaf, host):
            return ServedCertificate(_pem(leaf), "".join(map(_pem, above)), secrets.open(site.private_key))
    own = session.get_one(ApplianceCertificate, appliance_id)
    return ServedCertificate(own.certificate, "", secrets.open(own.private_key))


def custom(session: Session) -> CustomCertificate | None:
    """The uploaded certificate, followed by its chain in one text."""
    return session.scalars(select(CustomCertificate).where(CustomCertificate.name == SITE)).one_or_none()


def covers(leaf: x509.Certificate, host: str) -> bool:
    """Whether a certificate is good for ``host``: it has that name, or a wildcard for its first label."""
    return bool(_dns_names(leaf) & {host, f"*.{host.partition('.')[2]}"})


def upload_link(session: Session, name: str, position: int, certificate: str, suffix: str) -> None:
    """Keep one certificate between the site's own and the root; nothing is shown differently until that one comes.

    Raises ParameterError for what is no certificate of an authority.
    """
    try:
        parsed = x509.load_pem_x509_certificate(certificate.encode())
    except ValueError:
        raise ParameterError("certificate: it is not a certificate in PEM") from None
    try:
        authority = parsed.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        authority = False
    if not authority:
        raise ParameterError(
            "certificate: it is no certificate of an authority; give the site's own one with its privatekey"
        )
    other = session.scalars(
        select(CustomCertificate).where(CustomCertificate.position == position, CustomCertificate.name != name)
    ).first()
    if other is not None:
        raise ParameterError(f"id: place {position} of the chain is that of {other.name}")
    row = _row(session, name)
    row.position, row.domain_suffix, row.certificate = position, suffix, certificate
    session.flush()


def upload_site(session: Session, secrets: Secrets, certificate: str, key: str, suffix: str) -> None:
    """Keep the site's own certificate with its key. Raises ParameterError, before anything changes, unless they match,
    the certificate is for ``suffix`` and its time is now, and the chain uploaded before leads from it to its root.
    """
    if "BEGIN PRIVATE KEY" not in key:
        raise ParameterError(
            "privatekey: it must be PKCS#8 without a password; openssl pkcs8 -topk8 -nocrypt makes one of another"
        )
    checked = check(certificate, key, _fitting(session, certificate) or None, None)
    leaf = x509.load_pem_x509_certificate(checked.certificate.encode())
    moment = now()
    if not leaf.not_valid_before_utc <= moment <= leaf.not_valid_after_utc:
        raise ParameterError(
            f"certificate: it is good from {leaf.not_valid_before_utc:%Y-%m-%d} to {leaf.not_valid_after_utc:%Y-%m-%d}"
        )
    wanted = {suffix, f"*.{suffix}"}
    names = _dns_names(leaf)
    if not names & wanted:
        raise ParameterError(
            f"domainsuffix: the certificate is for {', '.join(sorted(names)) or 'no name'}, not for *.{suffix}"
        )
    row = _row(session, SITE)
    # a root is what browsers have already
    above = x509.load_pem_x509_certificates(checked.chain.encode()) if checked.chain else []
    row.certificate = checked.certificate + "".join(_pem(link) for link in above if link.issuer != link.subject)
    row.domain_suffix = suffix
    row.private_key = secrets.seal(checked.key)
    session.flush()


def _fitting(session: Session, certificate: str) -> str:
    """The uploaded chain, from what signed the site's own towards the root; none where that brings its own."""
    if certificate.count("BEGIN CERTIFICATE") > 1:
        return ""
    links = select(CustomCertificate).where(CustomCertificate.name != SITE)
    return "".join(row.certificate for row in session.scalars(links.order_by(CustomCertificate.position.desc())))


def _dns_names(leaf: x509.Certificate) -> set[str]:
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return set()
    return {name.lower() for name in names.get_values_for_type(x509.DNSName)}


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(Encoding.PEM).decode()


def _row(session: Session, name: str) -> CustomCertificate:
    row = session.scalars(select(CustomCertificate).where(CustomCertificate.name == name)).one_or_none()
    if row is None:
        row = CustomCertificate(name=name)
        session.add(row)
    return row
