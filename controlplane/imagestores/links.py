"""Links to objects in image stores: for people by a token, for another SSVM by its certificate."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import sha256

from sqlalchemy import ColumnElement, delete, select
from sqlalchemy.orm import Session

from controlplane.configuration import Configuration
from controlplane.convergence.desired import desire
from controlplane.errors import ApiError
from controlplane.imagestores import shares
from controlplane.store.models import Appliance, ImageStore, StorageJob, StorageLink, now
from controlplane.systemvms import rows as systemvms
from controlplane.systemvms.names import names_of

DOMAIN = "secstorage.ssl.cert.domain"
#: port of SSVMs towards others (``ssvm.services.storage.model.section.Storage.peer_port``)
PEER_PORT = 8443


class NoSsvmError(ApiError):
    """No SSVM of the zone serves now."""

    code = 534


@dataclass(frozen=True)
class Token:
    """A secret that is in one answer and nowhere else; ``hash`` is kept."""

    text: str = field(repr=False)

    @property
    def hash(self) -> str:
        return sha256(self.text.encode()).hexdigest()


def new_token() -> Token:
    return Token(secrets.token_urlsafe(32))


def host_of(session: Session, configuration: Configuration, appliance_id: str) -> str:
    """What browsers call an SSVM: its name, or its public address."""
    address = systemvms.public_address(session, appliance_id).address
    return names_of(address, configuration.get(session, DOMAIN)).host


def serving(session: Session, zone_id: str, zone_name: str, store_id: str) -> Appliance:
    """An SSVM of the zone that runs and has the store, the least busy by links. Raises NoSsvmError."""
    store = session.get(ImageStore, store_id)
    directory = store is None or store.provider in shares.DIRECTORIES
    there = [
        row
        for row in systemvms.of_zone(session, zone_id, shares.ROLE)
        if row.state == "Running" and row.healthy is not False and (not directory or store_id in row.shares)
    ]
    if not there:
        raise NoSsvmError(f"zone {zone_name} has no secondary storage VM that serves now; try again in a minute")
    held = select(StorageLink.appliance_id).where(StorageLink.appliance_id.in_([row.id for row in there]))
    counts = list(session.scalars(held))
    return min(there, key=lambda row: counts.count(row.id))


def create(
    session: Session,
    configuration: Configuration,
    ssvm: Appliance,
    *,
    store_id: str,
    path: str,
    subject_id: str,
    name: str,
    seconds: int,
) -> tuple[StorageLink, str]:
    """A link for whoever has its URL, which is a secret: the row and the URL. The SSVM's next document has it."""
    token = new_token()
    row = StorageLink(
        zone_id=ssvm.zone_id,
        appliance_id=ssvm.id,
        store_id=store_id,
        path=path,
        subject_id=subject_id,
        token_hash=token.hash,
        name=name,
        expires=now() + timedelta(seconds=seconds),
    )
    session.add(row)
    session.flush()
    desire(session, ssvm.id)
    return row, f"https://{host_of(session, configuration, ssvm.id)}/extract/{token.text}/{name}"


def for_peer(session: Session, source: Appliance, job: StorageJob, peer: Appliance, expires: datetime) -> str:
    """Leave for ``peer`` to fetch what its copy job is about from ``source``: the URL."""
    session.execute(delete(StorageLink).where(StorageLink.subject_id == job.id))
    row = StorageLink(
        zone_id=source.zone_id,
        appliance_id=source.id,
        store_id=job.fields["source_store"],
        path=job.fields["source_path"],
        subject_id=job.id,
        peer=peer.id,
        name="copy",
        expires=expires,
    )
    session.add(row)
    session.flush()
    desire(session, source.id)
    return f"https://{systemvms.public_address(session, source.id).address}:{PEER_PORT}/peer/{row.id}"


def withdraw(session: Session, subject_id: str) -> None:
    """End the links about something. The next documents of their SSVMs go without them."""
    _remove(session, StorageLink.subject_id == subject_id)


def expire(session: Session) -> None:
    """Remove links whose time is over; as ``withdraw``."""
    _remove(session, StorageLink.expires <= now())


def release(session: Session, appliance_id: str) -> None:
    """An SSVM is gone, and its links with it."""
    session.execute(delete(StorageLink).where(StorageLink.appliance_id == appliance_id))


def _remove(session: Session, which: ColumnElement[bool]) -> None:
    gone = session.scalars(delete(StorageLink).where(which).returning(StorageLink.appliance_id))
    for appliance_id in dict.fromkeys(gone):
        desire(session, appliance_id)
