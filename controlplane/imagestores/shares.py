"""Directories of hosts that SSVMs see: image stores that are directories, and the way to primary storage.

``EXCHANGE`` is a directory beside primary storage, on its file system. An SSVM puts an image there for the hypervisor
to take, and the hypervisor one for an SSVM to fetch; so SSVMs never see the files that guests run from.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.orm import Session

from controlplane.hypervisors.base import SHARES, Hypervisor, HypervisorError, Share
from controlplane.imagestores import stores
from controlplane.store.models import Appliance

EXCHANGE = "exchange"
#: providers whose stores are directories
DIRECTORIES = ("Local",)
ROLE = "ssvm"


def inside(store_id: str) -> str:
    """Where an SSVM has the directory of a store."""
    return f"{SHARES}/{store_id}"


def exchange(hypervisor: Hypervisor) -> Path:
    """The directory ``EXCHANGE`` on this machine."""
    return hypervisor.images() / EXCHANGE


def names(session: Session, zone_id: str) -> list[str]:
    """Names of the directories that an SSVM of the zone should have."""
    return [EXCHANGE, *(store.id for store in stores.of_zone(session, zone_id) if store.provider in DIRECTORIES)]


@dataclass(frozen=True)
class Wanted:
    """A directory that an SSVM is to see; ``url`` is ``file://...``, "" for ``EXCHANGE``."""

    name: str
    url: str = ""


def of_machine(session: Session, appliance: Appliance) -> tuple[Wanted, ...]:
    """What an SSVM is started with, and noted as such; none for other appliances. In a transaction that writes."""
    if appliance.role != ROLE:
        return ()
    there = [store for store in stores.of_zone(session, appliance.zone_id) if store.provider in DIRECTORIES]
    appliance.shares = [EXCHANGE, *(store.id for store in there)]
    return (Wanted(EXCHANGE), *(Wanted(store.id, store.url) for store in there))


def make(hypervisor: Hypervisor, wanted: tuple[Wanted, ...]) -> tuple[Share, ...]:
    """See to it that the directories are there, and say where they are. Raises HypervisorError."""
    found = []
    for one in wanted:
        path = Path(one.url.removeprefix("file://")) if one.url else exchange(hypervisor)
        try:
            path.mkdir(mode=0o711, parents=True, exist_ok=True)
        except OSError as error:
            raise HypervisorError(f"{path} cannot be made: {error.strerror or error}") from error
        found.append(Share(one.name, str(path)))
    return tuple(found)
