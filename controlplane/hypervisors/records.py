"""What is on disk of each instance: its record.

A record is written before anything is made and removed after everything is gone, so that after a crash whatever
is found has a record that says whose it was.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from appliance.run import run
from controlplane.hypervisors.base import HypervisorError, Nic

RECORD = "record.json"
#: of a storage pool, or of the storage that hosts share: whose it is
MARK = "owner"
#: directories with these prefixes are on their way in or out: what a crash leaves of them is removed
_NEW, _GONE = ".new-", ".gone-"


@dataclass(frozen=True)
class Record:
    """One instance as it was asked for."""

    id: str
    kind: Literal["appliance", "guest"]
    hostname: str
    nics: tuple[Nic, ...]
    cpus: int
    memory_mb: int
    #: of a guest
    template: str = ""
    #: url; "" is the hypervisor's first
    host: str = ""
    #: url of the host that it is on its way to
    target: str | None = None

    def attached(self, nic: Nic) -> Record:
        return replace(self, nics=(*(old for old in self.nics if old.mac != nic.mac), nic))

    def changed(self, nic: Nic) -> Record:
        """With ``nic`` in the place of the one with its MAC."""
        return replace(self, nics=tuple(nic if old.mac == nic.mac else old for old in self.nics))

    def detached(self, mac: str) -> Record:
        return replace(self, nics=tuple(nic for nic in self.nics if nic.mac != mac))


def write_atomically(path: Path, content: str) -> None:
    """Replace ``path`` (mode 0600) so that a crash leaves the old content or the new."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    with os.fdopen(handle, "w") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    Path(temporary).replace(path)


def remove_tree(path: Path) -> None:
    """Remove a directory with all that a guest put there. Raises CommandError."""
    try:
        shutil.rmtree(path)
    except (RecursionError, OSError):
        # it recurses with a descriptor at each level, and a guest may have nested thousands of directories
        run(["rm", "-rf", "--", str(path)], timeout=600)


def encode(record: Record) -> str:
    return json.dumps(asdict(record), indent=1)


def decode(text: str) -> Record:
    """Raises ValueError (also KeyError, TypeError) for what is no record."""
    raw: dict[str, Any] = json.loads(text)
    nics = tuple(Nic(**{**nic, "addresses": tuple(nic.get("addresses", ()))}) for nic in raw["nics"])
    return Record(**{**raw, "nics": nics})


class Records:
    """The directory ``instances`` of a data directory: one folder an instance, named by its id."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def folder(self, instance_id: str) -> Path:
        # ids are UUIDs or names such as r-5; nothing that could leave the directory
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}", instance_id):
            raise HypervisorError(f"{instance_id!r} cannot be an instance's id: use letters, digits, '-' and '_'")
        return self.directory / instance_id

    def load(self, instance_id: str) -> Record | None:
        """None when there is none. Raises HypervisorError when the file cannot be read as one."""
        path = self.folder(instance_id) / RECORD
        try:
            return decode(path.read_text())
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError) as error:
            raise HypervisorError(f"{path} is damaged ({error}); destroy {instance_id} and make it again") from error

    def save(self, record: Record) -> None:
        """Create or replace; a new instance's folder appears with its record in it."""
        folder = self.folder(record.id)
        if folder.exists():
            write_atomically(folder / RECORD, encode(record))
            return
        fresh = Path(tempfile.mkdtemp(dir=self.directory, prefix=_NEW))
        write_atomically(fresh / RECORD, encode(record))
        fresh.rename(folder)

    def remove(self, instance_id: str) -> None:
        """Forget it at once (rename), then remove its files."""
        folder = self.folder(instance_id)
        gone = Path(tempfile.mkdtemp(dir=self.directory, prefix=_GONE))
        with suppress(FileNotFoundError):
            folder.rename(gone / "folder")
        remove_tree(gone)

    def sweep(self) -> None:
        """Remove what a crash left half made or half removed."""
        for path in self.directory.iterdir():
            if path.name.startswith((_NEW, _GONE)):
                remove_tree(path)

    def ids(self) -> Iterator[str]:
        for path in sorted(self.directory.iterdir()):
            if not path.name.startswith("."):
                yield path.name
