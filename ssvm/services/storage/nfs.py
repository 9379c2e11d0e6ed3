"""NFS exports of the document, mounted for the worker: those of stores that are there, and no others.

A server that does not answer is no reason to refuse a document: its store is not healthy, and it is mounted as soon
as it answers.
"""

from __future__ import annotations

import logging
import shutil
import socket
import time
from pathlib import Path

from appliance.engine.mounts import Mount, mount, mounted, unmount
from appliance.errors import ApplyError
from appliance.settings import Settings
from ssvm.services.storage.model.section import Storage
from ssvm.services.storage.model.stores import NfsStore

log = logging.getLogger(__name__)

#: seconds between two looks for a server that did not answer, and for its answer
LOOK, ANSWER = 5.0, 0.5
#: a server that falls silent makes calls fail after some 45 s: jobs then try again, and nothing waits for ever
OPTIONS = "sec=sys,softerr,timeo=150,retrans=2,noatime,nosuid,nodev,noexec"


def directory(settings: Settings) -> Path:
    """Holds a mount point for each store, named by its id."""
    return settings.run_dir / "nfs"


def mounts(storage: Storage | None, settings: Settings) -> dict[Path, tuple[NfsStore, Mount]]:
    """Mount point -> store and mount. Pure."""
    found = {}
    for store in storage.stores if storage is not None else ():
        if isinstance(store, NfsStore):
            where = directory(settings) / store.id
            options = f"vers={store.version},addr={store.server},port={store.port},{OPTIONS}"
            found[where] = (store, Mount(f"{store.server}:{store.export}", where, "nfs4", options))
    return found


class Exports:
    """What is mounted, brought about."""

    def __init__(self) -> None:
        self._looked = 0.0

    def bring(self, before: Storage | None, after: Storage | None, settings: Settings, user: str) -> None:
        """Mount what is wanted and not there, for ``user``; unmount what is not wanted any more."""
        old, wanted, there = mounts(before, settings), mounts(after, settings), mounted(directory(settings))
        for where in there:
            if where not in wanted or (where in old and old[where] != wanted[where]):
                unmount(where, settings)
                there = there - {where}
        for where, (store, mounting) in wanted.items():
            if where not in there and _answers(store):
                try:
                    mount(mounting, settings)
                    shutil.chown(where, user)
                except (ApplyError, OSError) as error:
                    log.error("store %s: %s", store.id, error)

    def missing(self, storage: Storage | None, settings: Settings) -> str | None:
        """A store that is not mounted though its server answers."""
        wanted = mounts(storage, settings)
        if not wanted or time.monotonic() - self._looked < LOOK:
            return None
        self._looked = time.monotonic()
        there = mounted(directory(settings))
        for where, (store, mounting) in wanted.items():
            if where not in there and _answers(store):
                return f"{mounting.what} of the store {store.id} is not mounted"
        return None


def _answers(store: NfsStore) -> bool:
    try:
        socket.create_connection((str(store.server), store.port), ANSWER).close()
    except OSError:
        return False
    return True
