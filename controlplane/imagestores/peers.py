"""Certificates by which SSVMs know each other; short, so none is ever revoked."""

from __future__ import annotations

from sqlalchemy.orm import Session

from controlplane.pki import LIFE, Authority
from controlplane.secrets import Secrets
from controlplane.store.models import PeerCertificate, now


def ensure(session: Session, secrets: Secrets, authority: Authority, appliance_id: str) -> bool:
    """See to it that an SSVM has a certificate with half its life left; whether a new one was made."""
    row = session.get(PeerCertificate, appliance_id)
    if row is not None and row.expires - now() > LIFE / 2:
        return False
    made = authority.issue_peer(appliance_id)
    if row is None:
        row = PeerCertificate(appliance_id=appliance_id)
        session.add(row)
    row.certificate, row.private_key = made.certificate.decode(), secrets.seal(made.key.decode())
    row.expires = now() + LIFE
    session.flush()
    return True
