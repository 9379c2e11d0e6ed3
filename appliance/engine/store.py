"""What the engine keeps on disk, each a small readable file that is replaced as a whole.

``state_dir/last-good``        a line ``sha256:<hex>``, then the bytes of the document that the machine matched last
``state_dir/repairs.json``     the newest repairs
``run_dir/machine.json``       what the machine was brought to since boot; ``settled: false`` while it changes
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from appliance.errors import GatehouseError
from appliance.files import replace_file, sync_directory, write_file
from appliance.schema.status import Repair
from appliance.settings import Settings

log = logging.getLogger(__name__)

_REPAIRS = TypeAdapter(tuple[Repair, ...])


class DamagedError(GatehouseError):
    """A file of the store is not what was written."""


@dataclass(frozen=True)
class Machine:
    """What the engine did to this machine since it booted; it is what makes an interrupted transaction visible.

    ``settled``: the machine matches the document with ``digest``. ``netfilter`` is the kernel's ruleset generation id
    after our last change of it. ``files`` are all files that may exist because of us.
    """

    settled: bool
    digest: str = ""
    netfilter: int = -1
    files: frozenset[Path] = frozenset()


class Store:
    """The files of one appliance."""

    def __init__(self, settings: Settings) -> None:
        self._good = settings.state_dir / "last-good"
        self._next = settings.state_dir / "last-good.next"
        self._repairs = settings.state_dir / "repairs.json"
        self._machine = settings.run_dir / "machine.json"
        for directory in (settings.state_dir, settings.run_dir):
            # units that are not root have directories of their own below; every file of ours is 0600
            directory.mkdir(mode=0o755, parents=True, exist_ok=True)

    def load(self) -> tuple[str, bytes] | None:
        """Digest and bytes of the last-good document; None when there is none. Raises DamagedError."""
        try:
            content = self._good.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise DamagedError(f"{self._good} cannot be read: {error}") from error
        head, _, body = content.partition(b"\n")
        digest = hashlib.sha256(body).hexdigest()
        if head != f"sha256:{digest}".encode():
            raise DamagedError(f"{self._good} is damaged: its digest does not match; waiting for a new document")
        return digest, body

    def prepare(self, digest: str, body: bytes) -> None:
        """Write the next last-good document beside the present one, flushed to disk. Raises OSError."""
        write_file(self._next, f"sha256:{digest}\n".encode(), body, flush=True)

    def commit(self) -> None:
        """Make the prepared document the last-good one. Raises OSError when it did not become so."""
        self._next.replace(self._good)
        try:
            sync_directory(self._good.parent)
        except OSError:
            # it is the last-good one all the same; should the power go now, the control plane sees the older
            # generation and sends the newer one again
            log.exception("flushing %s", self._good.parent)

    def abandon(self) -> None:
        """Forget the prepared document."""
        with contextlib.suppress(OSError):
            self._next.unlink(missing_ok=True)

    def machine(self) -> Machine:
        """The record of this boot; an unreadable one counts as interrupted."""
        try:
            raw = json.loads(self._machine.read_bytes())
            files = frozenset(Path(name) for name in raw["files"])
            return Machine(bool(raw["settled"]), str(raw["digest"]), int(raw["netfilter"]), files)
        except (OSError, ValueError, KeyError, TypeError):
            return Machine(settled=False)

    def record(self, machine: Machine) -> None:
        raw = {
            "settled": machine.settled,
            "digest": machine.digest,
            "netfilter": machine.netfilter,
            "files": sorted(map(str, machine.files)),
        }
        # run_dir ends with the boot, so there is nothing to flush
        replace_file(self._machine, json.dumps(raw, indent=1).encode(), flush=False)

    def repairs(self) -> tuple[Repair, ...]:
        """The newest repairs, oldest first. Raises DamagedError."""
        try:
            return _REPAIRS.validate_json(self._repairs.read_bytes())
        except FileNotFoundError:
            return ()
        except (OSError, ValidationError) as error:
            raise DamagedError(f"{self._repairs} cannot be read: {error}") from error

    def save_repairs(self, repairs: Iterable[Repair]) -> None:
        replace_file(self._repairs, _REPAIRS.dump_json(tuple(repairs), indent=1), flush=True)
