"""What became of jobs, on the disk: a job that is done is not done again, whoever is killed when.

One small file a job, replaced as a whole. An entry whose object is about to be put says what the object will be, so
that the next process knows whether it was.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection
from pathlib import Path

from appliance.files import replace_file
from appliance.schema.types import Frozen
from ssvm.services.storage.model.report import Failure, Result

#: seconds for which a job that left the document is remembered: an older document may come back by a roll-back
KEEP = 86_400.0


class Entry(Frozen):
    """``result`` with ``ended`` False: the object is being put. Neither result nor failure: ended well, no object."""

    attempt: int
    ended: bool
    result: Result | None = None
    failure: Failure | None = None


class Ledger:
    """The entries in ``directory``. Methods may raise OSError."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)

    def _file(self, id: str) -> Path:
        return self._directory / f"{id}.entry"

    def read(self, id: str, attempt: int) -> Entry | None:
        """What is known of an attempt of a job."""
        try:
            entry = Entry.model_validate_json(self._file(id).read_bytes())
        except (FileNotFoundError, ValueError):
            return None
        return entry if entry.attempt == attempt else None

    def write(self, id: str, entry: Entry) -> None:
        """On the disk when this returns."""
        replace_file(self._file(id), entry.model_dump_json().encode(), flush=True)

    def forget(self, wanted: Collection[str]) -> None:
        """Let go of jobs that no document has named for a day."""
        for path in self._directory.glob("*.entry"):
            if path.stem in wanted:
                os.utime(path)
            elif path.stat().st_mtime < time.time() - KEEP:
                path.unlink()
