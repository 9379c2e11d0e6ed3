"""``python -m tests.vm.report``: what the image is made of, and its targets measured in one run.

The race: both images boot in the same emulator with the same settings, one after the other, some rounds. The plain
Debian ends at its login prompt on the serial console. A router ends at the first healthy answer of its agent over
mutual TLS; it has its last-good document on its state disk, as after any reboot, and no administrator's key.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

from tests.conftest import PATIENCE
from tests.netns.lab import Lab, Router
from tests.vm import plain
from tests.vm.accelerator import hardware, machine_options
from tests.vm.documents import document
from tests.vm.qemu import DEVICES, QemuHypervisor, drive
from tests.wait import wait_for
from tools.image import build
from tools.image.__main__ import FOLDER

ROUNDS = 3
LARGEST_MB, MOST_MEMORY_MB = 200, 160
_LONGEST = 300.0


def plain_boot(image: Path, folder: Path) -> float:
    """Seconds from power on to the login prompt of the plain Debian."""
    serial = folder / "plain.log"
    serial.unlink(missing_ok=True)
    argv = ["qemu-system-x86_64", *machine_options(1), "-m", "256", *DEVICES]
    argv += [*drive("root", image, "qcow2", "snapshot=on"), "-serial", f"file:{serial}"]
    begin = time.monotonic()
    with subprocess.Popen(argv, stdin=subprocess.DEVNULL) as process:
        try:
            wait_for(lambda: b"login:" in serial.read_bytes(), _LONGEST, "the login prompt", interval=0.05)
            return time.monotonic() - begin
        finally:
            process.kill()


def router_boot(lab: Lab, router: Router) -> float:
    """Seconds from power on to the first healthy answer of the router."""
    lab.hypervisor.stop(router.id, force=True)
    router.agent.close()
    begin = time.monotonic()
    lab.hypervisor.start_appliance(router.spec)

    def healthy() -> bool:
        health = router.health()
        return health.healthy and health.generation == router.generation

    wait_for(healthy, _LONGEST, "a healthy answer", interval=0.05)
    return time.monotonic() - begin


def memory_used(router: Router) -> float:
    """MiB that are not available to programs."""
    pairs = (line.split(":") for line in router.read("/proc/meminfo").splitlines())
    kib = {name: int(value.split()[0]) for name, value in pairs}
    return (kib["MemTotal"] - kib["MemAvailable"]) / 1024


def main() -> int:
    image = build.image(FOLDER)
    other = plain.image(FOLDER)
    manifest = json.loads((FOLDER / "manifest.json").read_text())
    for package in manifest["packages"]:
        print(f"{package['bytes'] / 1e6:8.1f} MB  {package['name']} {package['version']}")
    for name, size in sorted(manifest["bytes"]["unpacked"].items(), key=lambda item: -item[1]):
        print(f"{size / 1e6:8.1f} MB  unpacked: {name}")
    with tempfile.TemporaryDirectory(prefix="gatehouse-vm-") as name:
        lab = Lab(Path(name), partial(QemuHypervisor, image=image), PATIENCE)
        try:
            hypervisor = lab.hypervisor
            assert isinstance(hypervisor, QemuHypervisor)
            router = lab.router(document(lab, lab.mac()))
            router.wait_healthy()
            used = memory_used(router)
            router.run(["sync"])
            del hypervisor.vms[router.id].credentials["authorized_keys"]
            times = [(router_boot(lab, router), plain_boot(other, Path(name))) for _ in range(ROUNDS)]
        finally:
            lab.close()
    ours, theirs = (statistics.median(column) for column in zip(*times, strict=True))
    size = manifest["bytes"]["qcow2"] / 1e6
    rows = (
        ("qcow2", f"{size:.1f} MB", f"{LARGEST_MB} MB", size <= LARGEST_MB),
        ("memory used, idle router", f"{used:.0f} MiB", f"{MOST_MEMORY_MB} MiB", used <= MOST_MEMORY_MB),
        ("healthy router", f"{ours:.1f} s", f"{theirs:.1f} s, plain Debian's login prompt", ours <= theirs),
    )
    print(f"\nemulator: {'KVM' if hardware() else 'TCG'}, {ROUNDS} rounds: {times}")
    for what, value, target, met in rows:
        print(f"{what:28} {value:>10}  target {target}: {'met' if met else 'missed'}")
    return 0 if all(met for *_, met in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
