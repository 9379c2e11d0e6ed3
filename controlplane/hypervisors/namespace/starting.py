"""The hypervisor's side of a launch: runs the launcher, and gives what it starts its NICs before it executes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence

from controlplane.hypervisors.base import HypervisorError
from controlplane.hypervisors.namespace.launch import Launch


def start(
    launch: Launch,
    what: str,
    *,
    descriptors: Sequence[int] = (),
    plug: Callable[[int], None] = lambda process_id: None,
) -> None:
    """Returns when the program is executed. Raises HypervisorError, which says ``what`` does not start, and why.

    ``plug`` is called with its PID once it has namespaces. ``descriptors`` of this process are open in it too.
    """
    launcher = subprocess.Popen(
        [sys.executable, "-P", "-m", "controlplane.hypervisors.namespace.launch"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        pass_fds=(*descriptors, *((launch.fence,) if launch.fence is not None else ())),
    )
    with launcher:
        assert launcher.stdin and launcher.stdout
        try:
            launcher.stdin.write(launch.encode() + "\n")
            launcher.stdin.flush()
            first = launcher.stdout.readline()
            if first.strip().isdigit():
                plug(int(first))
                launcher.stdin.write("go\n")
                launcher.stdin.close()
                first = ""
            problem = (first + launcher.stdout.read()).strip()
        except BrokenPipeError:
            problem = launcher.stdout.read().strip() or "the launcher died"
    if problem or launcher.returncode:
        raise HypervisorError(f"{what} does not start: {problem or 'see the control plane log'}")
