"""Running the control plane and all of its instances as an ordinary user, inside one user namespace.

The user namespace and its mount namespace belong to a data directory and are held by a tiny process, so they stay when
the control plane goes. The control plane enters them and keeps the machine's network namespace: its API is reached
as always, while the fabric and the instances' networks are made inside (user_namespaces(7)).

With entries in subuid(5) and newuidmap(1) the namespace has many users, and daemons run as their own. Without them it
has one: in an appliance every user name then means that one, so a daemon is kept from other instances by its
namespaces but not from other daemons of the same appliance.
"""

from __future__ import annotations

import fcntl
import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import NoReturn

from controlplane.hypervisors.base import HypervisorError
from controlplane.hypervisors.namespace.processes import Process
from controlplane.hypervisors.records import write_atomically

_HOLDER = "rootless.json"
#: seconds for the namespace to be made
_PATIENCE = 5.0


def ensure(data: Path) -> None:
    """As an ordinary user: run this program again inside the data directory's user namespace. As root: do nothing.

    Call it before threads are started or files are opened. Raises HypervisorError where the kernel allows no user
    namespace.
    """
    if os.geteuid() == 0:
        return
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    _enter(_holder(data), [sys.executable, *sys.orig_argv[1:]])


def _enter(holder: Process, argv: Sequence[str]) -> NoReturn:
    command = ["nsenter", f"--target={holder.pid}", "--user", "--mount", "--preserve-credentials", "--", *argv]
    os.execvp(command[0], command)  # noqa: S606 - this process becomes the one inside


def stop(data: Path) -> None:
    """End the namespaces of a data directory whose hypervisor was purged."""
    holder = _recorded(data)
    if holder is not None and holder.alive():
        os.kill(holder.pid, signal.SIGTERM)
    (data / _HOLDER).unlink(missing_ok=True)


def _holder(data: Path) -> Process:
    """The process that holds the namespaces: the one that is there, or a new one."""
    with (data / "rootless.lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        holder = _recorded(data)
        if holder is None or not holder.alive():
            holder = _start(subordinate_users())
            write_atomically(data / _HOLDER, json.dumps(asdict(holder)))
        return holder


def _recorded(data: Path) -> Process | None:
    try:
        return Process(**json.loads((data / _HOLDER).read_text()))
    except (FileNotFoundError, ValueError, TypeError):
        return None


def subordinate_users(etc: Path = Path("/etc")) -> bool:
    """Whether this user has subordinate users and groups, and the programs that map them."""
    name = pwd.getpwuid(os.geteuid()).pw_name
    return all(shutil.which(program) for program in ("newuidmap", "newgidmap")) and all(
        has_range((etc / file).read_text(), name, os.geteuid())
        for file in ("subuid", "subgid")
        if (etc / file).exists()
    )


def has_range(text: str, name: str, number: int) -> bool:
    """Whether subuid(5) text has an entry for the user."""
    return any(line.split(":")[0] in (name, str(number)) for line in text.splitlines())


def _start(many_users: bool) -> Process:
    mapping = ["--map-root-user", *(["--map-auto"] if many_users else [])]
    command = ["unshare", "--user", *mapping, "--mount", "--", "sleep", "infinity"]
    holder = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
        text=True,
    )
    comm = Path(f"/proc/{holder.pid}/comm")
    deadline = time.monotonic() + _PATIENCE
    while holder.poll() is None and time.monotonic() < deadline:
        # unshare becomes sleep once everything is set up
        if comm.read_text().strip() == "sleep":
            found = Process.of(holder.pid)
            if found is not None:
                return found
        time.sleep(0.01)
    holder.kill()
    problem = (holder.communicate()[1] or "").strip() or "no answer"
    raise HypervisorError(
        f"this machine's kernel makes no user namespace for an ordinary user ({problem}); run as root, or allow it: "
        "sysctl user.max_user_namespaces, and where they exist kernel.unprivileged_userns_clone and "
        "kernel.apparmor_restrict_unprivileged_userns"
    )
