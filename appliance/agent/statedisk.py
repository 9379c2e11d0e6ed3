"""Whether what is kept on the state disk survives a reboot, and whether there is room for more of it."""

from __future__ import annotations

import os
from pathlib import Path

#: bytes: below this a document of usual size does not fit twice (image-build/initrd/init has the same)
LEAST_FREE = 2 << 20


def trouble(run_dir: Path, state_dir: Path) -> str:
    """Why an operator must look at the disk, or "".

    What the initrd found at boot, see image-build/initrd/init, goes before how full the disk is now.
    """
    try:
        return (run_dir / "degraded").read_text(errors="replace").strip()
    except OSError:
        pass
    try:
        disk = os.statvfs(state_dir)
    except OSError as error:
        return f"the state disk cannot be read: {error}"
    free = disk.f_bavail * disk.f_frsize
    if free >= LEAST_FREE:
        return ""
    return (
        f"the state disk is full: {free >> 10} KiB are free, {LEAST_FREE >> 10} are needed; what was configured goes "
        "on, changes are refused while they find no room: remove what is not needed, or give the machine a larger disk"
    )
