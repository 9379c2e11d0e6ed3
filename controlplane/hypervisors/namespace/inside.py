"""Changes the mounts of an instance that runs.

``python -m controlplane.hypervisors.namespace.inside`` reads a request of ``change`` from standard input. It does not
execute or load anything once it is inside: all that is there is the instance's to replace.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from controlplane.hypervisors import syscalls
from controlplane.hypervisors.base import HypervisorError
from controlplane.hypervisors.namespace.mounts import Mount, perform

#: seconds
_PATIENCE = 20
#: to go into a mount namespace and to mount there (setns(2)); nothing else is needed
_RIGHTS = ("setpriv", "--no-new-privs", "--inh-caps=-all", "--bounding-set=-all,+sys_admin,+sys_chroot", "--")


def change(
    process_id: int, remove: Sequence[str], mounts: Sequence[Mount] = (), *, descriptors: Sequence[int] = ()
) -> None:
    """In the mount namespace of a process: unmount and remove the files ``remove``, then do ``mounts``.

    ``descriptors`` are those that ``mounts`` name. Raises HypervisorError.
    """
    try:
        with Path(f"/proc/{process_id}/ns/mnt").open("rb") as namespace:
            number = namespace.fileno()
            request = {"namespace": number, "remove": list(remove), "mounts": [asdict(mount) for mount in mounts]}
            done = subprocess.run(
                [*_RIGHTS, sys.executable, "-P", "-m", "controlplane.hypervisors.namespace.inside"],
                input=json.dumps(request),
                capture_output=True,
                text=True,
                errors="replace",
                timeout=_PATIENCE,
                check=False,
                pass_fds=(number, *descriptors),
            )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise HypervisorError(f"the mounts of process {process_id} cannot be changed: {error}") from error
    if done.returncode:
        raise HypervisorError(f"the mounts of process {process_id} cannot be changed: {done.stderr.strip()}")


def mounted(process_id: int, target: str) -> bool:
    """Whether something is mounted on the file ``target`` in the mount namespace of a process."""
    try:
        lines = Path(f"/proc/{process_id}/mountinfo").read_text(errors="replace").splitlines()
    except OSError:
        return False
    return any(line.split()[4] == target for line in lines)


def main() -> int:
    request = json.load(sys.stdin)
    mounts = [Mount(**item) for item in request["mounts"]]
    syscalls.setns(request["namespace"], syscalls.CLONE_NEWNS)
    for name in request["remove"]:
        with suppress(OSError):
            syscalls.unmount(Path(name), syscalls.MNT_DETACH | syscalls.UMOUNT_NOFOLLOW)
        Path(name).unlink(missing_ok=True)
    perform(mounts, Path("/"))
    return 0


if __name__ == "__main__":
    try:
        status = main()
    except BaseException as error:
        os.write(2, f"{error}".encode())
        status = 1
    # neither a traceback, which reads files, nor what Python does at its end
    os._exit(status)
