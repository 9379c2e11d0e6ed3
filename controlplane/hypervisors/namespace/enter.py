"""Commands inside an instance: nsenter(1) into all of its namespaces."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence

from controlplane.hypervisors.namespace.boot import environment
from controlplane.hypervisors.namespace.launch import DROPPED_CAPABILITIES


def command(pid: int, argv: Sequence[str], variables: Sequence[tuple[str, str]] = ()) -> list[str]:
    """The argument list that runs ``argv`` in the instance whose PID 1 is ``pid``, with no more rights than it has.

    They are given up before going in: everything inside, env(1) too, is the instance's to replace.
    """
    rights = ",".join(f"-{name}" for name in DROPPED_CAPABILITIES)
    assignments = [f"{name}={value}" for name, value in environment(variables).items()]
    return [
        *("setpriv", f"--bounding-set={rights}", "--"),
        "nsenter",
        f"--target={pid}",
        *("--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup"),
        "--",
        *("/usr/bin/env", "-i", *assignments),
        *argv,
    ]


def run_attached(argv: Sequence[str]) -> int:
    """Run ``argv`` on this process's standard streams; its exit status, 128 + N when signal N ended it."""
    # signals from the terminal reach the command too, and it decides; we only wait for it
    process = subprocess.Popen(list(argv))
    while True:
        try:
            status = process.wait()
        except KeyboardInterrupt:
            continue
        return status if status >= 0 else 128 - status


def terminal() -> list[tuple[str, str]]:
    """The caller's terminal type, for programs that draw on it."""
    term = os.environ.get("TERM")
    return [("TERM", term)] if term else []
