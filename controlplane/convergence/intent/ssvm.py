"""What the tables say about one secondary-storage VM: the input of its compiler, and how it is read."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import datetime
from ipaddress import IPv4Address, IPv4Network
from typing import NamedTuple
from urllib.parse import urlsplit

from sqlalchemy import select
from sqlalchemy.orm import Session

from controlplane.convergence.intent.rows import storage_segment
from controlplane.convergence.intent.systemvm import SystemVmIntent, common, outward
from controlplane.core import Core
from controlplane.imagestores import peers, shares, stores
from controlplane.imagestores.links import DOMAIN
from controlplane.network import storagenetwork
from controlplane.setting import words
from controlplane.store.models import Appliance, ImageStore, PeerCertificate, StorageJob, StorageLink, Zone
from controlplane.systemvms import certificates
from controlplane.systemvms import rows as systemvms
from controlplane.systemvms.names import names_of

#: where no server is for everybody (RFC 1918, 2544, 6598)
_PRIVATE = tuple(map(IPv4Network, ("10.0.0.0/8", "100.64.0.0/10", "172.16.0.0/12", "192.168.0.0/16", "198.18.0.0/15")))


class Store(NamedTuple):
    """An image store as the SSVM opens it. ``fields`` are those of the document, as JSON, but for the secret."""

    id: str
    fields: str
    secret: str | None

    def __repr__(self) -> str:
        return f"Store({self.id})"


class Job(NamedTuple):
    """A job of the document. ``fields`` are all of it but the id, as JSON."""

    id: str
    fields: str


class Link(NamedTuple):
    """A link of the document."""

    id: str
    store: str
    path: str
    token_hash: str | None
    peer: str | None
    name: str
    expires: datetime


@dataclass(frozen=True)
class PeerIdentity:
    """What the SSVM shows to others: PEM texts. ``ca`` signed theirs."""

    certificate: str
    ca: str
    key: str = field(repr=False)


class StorageNic(NamedTuple):
    """Its place on the storage network."""

    segment: str
    address: str
    netmask: str
    gateway: str

    @property
    def subnet(self) -> IPv4Network:
        return IPv4Network((self.address, self.netmask), strict=False)


@dataclass(frozen=True, kw_only=True)
class SsvmIntent(SystemVmIntent):
    """Everything one SSVM's document is made of, at one generation."""

    #: the zone's public resolvers, for the names in URLs
    resolvers: tuple[str, ...]
    certificate: certificates.ServedCertificate | None = field(default=None, repr=False)
    peer: PeerIdentity | None = field(default=None, repr=False)
    stores: tuple[Store, ...] = ()
    jobs: tuple[Job, ...] = ()
    links: tuple[Link, ...] = ()
    origins: tuple[str, ...] = ()
    internal_sites: tuple[str, ...] = ()
    #: None without a storage network
    storage: StorageNic | None = None
    #: Mbit/s of that, in each direction; 0 for no limit
    storage_rate: int = 0
    #: where stores are that are not public
    storage_networks: tuple[str, ...] = ()
    proxy: str | None = None
    threads: int = 10
    #: bytes a second
    bandwidth: int | None = None

    @property
    def segments(self) -> frozenset[str]:
        return super().segments | ({self.storage.segment} if self.storage is not None else set())


def prepare(session: Session, ssvm: Appliance, core: Core) -> bool:
    """See to it that the SSVM has certificates for its names and towards others; whether it needed another one."""
    address = systemvms.public_address(session, ssvm.id).address
    names = names_of(address, core.configuration.get(session, DOMAIN))
    site = certificates.ensure(session, core.secrets, core.authority, ssvm.id, names.subjects)
    return peers.ensure(session, core.secrets, core.authority, ssvm.id) or site


def load(session: Session, appliance_id: str, core: Core) -> SsvmIntent:
    """The intent of one SSVM from one snapshot of the tables. Raises NoResultFound for an unknown one."""
    row = session.get_one(Appliance, appliance_id)
    zone = session.get_one(Zone, row.zone_id)

    def setting(name: str) -> str:
        return core.configuration.get(session, f"secstorage.{name}", zone=zone.id)

    public = outward(session, appliance_id)
    names = names_of(public.address, setting("ssl.cert.domain"))
    own = session.get_one(PeerCertificate, appliance_id)
    storage = _storage_nic(session, appliance_id)
    return SsvmIntent(
        **common(row, public),
        resolvers=tuple(address for address in (zone.dns1, zone.dns2) if address),
        certificate=certificates.served(session, core.secrets, appliance_id, names.host),
        peer=PeerIdentity(own.certificate, core.authority.certificate.decode(), key=core.secrets.open(own.private_key)),
        stores=_stores(session, row, core),
        jobs=_jobs(session, appliance_id),
        links=_links(session, appliance_id),
        origins=words(setting("origins")),
        internal_sites=words(setting("allowed.internal.sites")),
        storage=storage,
        storage_rate=int(setting("storage.network.rate")),
        storage_networks=_inner_hosts(session, zone.id, storage),
        proxy=setting("proxy") or None,
        threads=int(setting("threads")),
        bandwidth=int(setting("bandwidth")) * 1024 or None,
    )


def _stores(session: Session, row: Appliance, core: Core) -> tuple[Store, ...]:
    """Those that its machine has: a directory that was added since comes with its next start."""
    found = []
    if shares.EXCHANGE in row.shares:
        found.append(_directory(shares.EXCHANGE))
    for store in stores.of_zone(session, row.zone_id):
        if store.provider in shares.DIRECTORIES:
            if store.id in row.shares:
                found.append(_directory(store.id))
        else:
            found.append(_remote(store, core))
    return tuple(found)


def _directory(id: str) -> Store:
    return Store(id, json.dumps({"kind": "directory", "path": shares.inside(id)}), None)


def _remote(store: ImageStore, core: Core) -> Store:
    secret = core.secrets.open(store.secret) if store.secret is not None else None
    return Store(store.id, json.dumps({"kind": store.provider.lower(), **store.details}, sort_keys=True), secret)


def _storage_nic(session: Session, appliance_id: str) -> StorageNic | None:
    found = storagenetwork.of_appliance(session, appliance_id)
    if found is None:
        return None
    held, span = found
    segment = storage_segment(span.physical_network_id, span.vlan)
    return StorageNic(segment, held.address, span.netmask, span.gateway)


def _inner_hosts(session: Session, zone_id: str, storage: StorageNic | None) -> tuple[str, ...]:
    """Servers of stores by address, those that are in no public network, or on the storage network itself.

    One with a name is taken to be public.
    """
    inner = _PRIVATE if storage is None else (*_PRIVATE, storage.subnet)
    found = set()
    for store in stores.of_zone(session, zone_id):
        host = store.details.get("server") or urlsplit(str(store.details.get("endpoint", ""))).hostname or ""
        try:
            address = IPv4Address(host)
        except ValueError:
            continue
        if any(address in network for network in inner):
            found.add(f"{address}/32")
    return tuple(sorted(found))


def _jobs(session: Session, appliance_id: str) -> tuple[Job, ...]:
    statement = select(StorageJob).where(StorageJob.appliance_id == appliance_id, StorageJob.ended.is_(None))
    return tuple(
        Job(
            row.id,
            json.dumps(
                {"kind": row.kind, "store": row.store_id, "path": row.path, "attempt": row.attempt, **_fields(row)},
                sort_keys=True,
            ),
        )
        for row in session.scalars(statement.order_by(StorageJob.created, StorageJob.id))
    )


def _fields(row: StorageJob) -> dict[str, object]:
    if row.kind != "copy":
        return dict(row.fields)
    # the rest is for finding somebody to copy from
    return {name: row.fields[name] for name in ("url", "peer", "checksum", "size", "format") if name in row.fields}


def _links(session: Session, appliance_id: str) -> tuple[Link, ...]:
    statement = select(StorageLink).where(StorageLink.appliance_id == appliance_id)
    return tuple(
        Link(row.id, row.store_id, row.path, row.token_hash, row.peer, row.name, row.expires)
        for row in session.scalars(statement.order_by(StorageLink.created, StorageLink.id))
    )
