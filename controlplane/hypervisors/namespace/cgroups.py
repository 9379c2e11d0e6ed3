"""Memory limits of instances, where this process may make control groups (cgroups(7), version 2 or 1).

Without that right there is no limit: instances work all the same.
"""

from __future__ import annotations

import hashlib
import time
from contextlib import suppress
from pathlib import Path

_ROOT = Path("/sys/fs/cgroup")


class Cgroups:
    """The control groups of one data directory: a group for all of its instances, below it one for each."""

    def __init__(self, data: Path, root: Path = _ROOT) -> None:
        name = "gatehouse-" + hashlib.sha256(str(data).encode()).hexdigest()[:12]
        self.version, parent = _locate(root)
        #: None where there are no groups to be had
        self.directory = parent / name if parent else None

    def prepare(self, instance_id: str, memory_mb: int) -> tuple[str, ...]:
        """Make the instance's group; the ``cgroup.procs`` files its first process must enter."""
        if self.directory is None:
            return ()
        group = self.directory / instance_id
        try:
            self.directory.mkdir(exist_ok=True)
            if self.version == 2:
                (self.directory / "cgroup.subtree_control").write_text("+memory")
            group.mkdir(exist_ok=True)
            limit = "memory.max" if self.version == 2 else "memory.limit_in_bytes"
            (group / limit).write_text(str(memory_mb << 20))
        except OSError:
            return ()
        return (str(group / "cgroup.procs"),)

    def remove(self, instance_id: str) -> None:
        """Remove the instance's group, once its processes are gone."""
        if self.directory is not None:
            _remove(self.directory / instance_id)

    def remove_all(self) -> None:
        if self.directory is not None:
            _remove(self.directory)

    def ids(self) -> list[str]:
        """Instances that have a group."""
        if self.directory is None or not self.directory.is_dir():
            return []
        return [path.name for path in self.directory.iterdir() if path.is_dir()]


def _locate(root: Path) -> tuple[int, Path | None]:
    with suppress(OSError):
        if "memory" in (root / "cgroup.subtree_control").read_text().split():
            return 2, root
    with suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers == "memory":
                own = root / "memory" / path.lstrip("/")
                return 1, own if own.is_dir() else None
    return 0, None


def _remove(group: Path, patience: float = 1.0) -> None:
    # the kernel counts a process out a moment after it was waited for
    deadline = time.monotonic() + patience
    while True:
        try:
            group.rmdir()
        except FileNotFoundError:
            return
        except OSError:
            if time.monotonic() > deadline:
                return
            time.sleep(0.01)
        else:
            return
