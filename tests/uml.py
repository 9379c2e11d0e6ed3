"""Tests in User-Mode Linux: a kernel with features that this machine's has not, on this machine's own files.

Everything the tests write goes where the machine's own would; networks, mounts and processes are the inner kernel's.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

#: whether this is the inner machine
INSIDE = os.environ.get("GATEHOUSE_IN_UML") == "1"

_MODULES = "/usr/lib/uml/modules"
_REPOSITORY = Path(__file__).resolve().parents[1]

_INIT = """#!/bin/sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root PYTHONDONTWRITEBYTECODE=1 GATEHOUSE_IN_UML=1
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mkdir -p /dev/shm
mount -t tmpfs tmpfs /dev/shm
mount -t tmpfs tmpfs /run
ip link set lo up
for module in {modules}; do modprobe -d {directory}/root "$module"; done
cd {repository}
{command} >{directory}/output 2>&1
echo $? >{directory}/status
sync
poweroff -f
"""


def run_tests(directory: Path, tests: Sequence[str], modules: Sequence[str], timeout: float = 120) -> str:
    """Run pytest on ``tests`` in an inner machine with kernel ``modules``; its output. AssertionError when it fails."""
    # modprobe(8) looks below lib/modules of its root
    (directory / "root/lib").mkdir(parents=True)
    (directory / "root/lib/modules").symlink_to(_MODULES)
    command = shlex.join(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--basetemp=/run/tests", *tests]
    )
    init = directory / "init"
    names = " ".join(modules)
    init.write_text(_INIT.format(modules=names, directory=directory, repository=_REPOSITORY, command=command))
    init.chmod(0o755)
    argv = ["linux.uml", "mem=512M", "rootfstype=hostfs", "rootflags=/", "rw", f"init={init}"]
    argv += ["con=null", "con0=fd:0,fd:1"]
    console = (directory / "console").open("wb")
    with console:
        machine = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=console, stderr=console, start_new_session=True
        )
        try:
            machine.wait(timeout)
        finally:
            # its processes are processes of this machine, and outlive the first one
            with suppress(ProcessLookupError):
                os.killpg(machine.pid, signal.SIGKILL)
            machine.wait()
    output = directory / "output"
    text = output.read_text(errors="replace") if output.exists() else ""
    status = directory / "status"
    passed = status.exists() and status.read_text().strip() == "0"
    assert passed, f"{text}\n{(directory / 'console').read_text(errors='replace')[-2000:]}"
    return text
