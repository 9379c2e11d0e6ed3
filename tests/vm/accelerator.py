"""How QEMU runs machines here: KVM where it works, else emulation."""

from __future__ import annotations

import os
import shutil
import subprocess
from functools import cache


def machine_options(cpus: int) -> list[str]:
    """QEMU's options for the processor. Emulation takes at least two processors: one runs what the other waits for."""
    if hardware():
        return ["-accel", "kvm", "-cpu", "host", "-smp", str(cpus)]
    return ["-accel", "tcg,thread=multi", "-cpu", "max", "-smp", str(max(2, cpus))]


@cache
def hardware() -> bool:
    """Whether a machine under KVM runs: the device being there proves nothing, so GATEHOUSE_KVM=1 says so."""
    return os.environ.get("GATEHOUSE_KVM") == "1" and _kvm_works()


def _kvm_works() -> bool:
    """Whether QEMU can use KVM at all."""
    program = shutil.which("qemu-system-x86_64")
    if program is None or not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return False
    done = subprocess.run(
        [program, "-accel", "kvm", "-M", "none", "-display", "none", "-monitor", "stdio"],
        input=b"quit\n",
        capture_output=True,
        timeout=10,
        check=False,
    )
    return done.returncode == 0
