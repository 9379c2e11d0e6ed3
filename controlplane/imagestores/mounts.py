"""NFS exports, mounted on this machine for the SSVMs that run here."""

from __future__ import annotations

import re
from pathlib import Path

from appliance.errors import GatehouseError
from appliance.run import run
from controlplane.hypervisors.base import HypervisorError

#: seconds for a server to answer
PATIENCE = 30.0
#: a server that is away makes whoever reads wait, not fail; no set-user-id programs, no devices
OPTIONS = "hard,nosuid,nodev,noexec,noatime"
_URL = re.compile(r"nfs://(?P<server>[A-Za-z0-9.-]+)(?P<path>/[A-Za-z0-9._/-]*)")


def parse(url: str) -> tuple[str, str] | None:
    """Server and path of ``nfs://server/path``; None for what is none."""
    found = _URL.fullmatch(url)
    if found is None or "/../" in f"{found['path']}/":
        return None
    return found["server"], found["path"]


def place(images: Path, store_id: str) -> Path:
    """Where the export of a store is mounted."""
    return images / "nfs" / store_id


def ensure(url: str, target: Path) -> None:
    """Mount the export unless it is. Raises HypervisorError saying what to do."""
    parsed = parse(url)
    if parsed is None:
        raise HypervisorError(f"{url} is no NFS URL; it is like nfs://server/path")
    if target.is_mount():
        return
    server, path = parsed
    try:
        run(["mount", "-t", "nfs", "-o", OPTIONS, f"{server}:{path}", str(target)], timeout=PATIENCE)
    except GatehouseError as error:
        raise HypervisorError(
            f"{url} cannot be mounted on this machine ({error}); it needs nfs-common, root, and an export to this host"
        ) from error
