"""Whether a host's KVM works, found by running something in it.

That ``/dev/kvm`` opens proves nothing: under some outer hypervisors guests are made and never execute. The machine
tried here has one boot sector, which resets it; libvirt ends a domain at its reset when told so.
"""

from __future__ import annotations

import json
import time
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import libvirt

from controlplane.hypervisors.records import write_atomically

Accelerator = Literal["kvm", "qemu"]

#: seconds for firmware and boot sector to run: they take about one where KVM works
PATIENCE = 10.0

# mov al, 0xfe; out 0x64, al; hlt: the keyboard controller's reset line; then the signature of a boot sector
BOOT_SECTOR = bytes.fromhex("b0fee664f4").ljust(510, b"\0") + b"\x55\xaa"

_TRIAL = """
<domain type="kvm">
  <name>{name}</name>
  <memory unit="MiB">32</memory>
  <vcpu>1</vcpu>
  <os><type arch="x86_64" machine="pc">hvm</type><boot dev="hd"/></os>
  <features><acpi/></features>
  <on_reboot>destroy</on_reboot>
  <devices>
    <disk type="file" device="disk">
      <driver name="qemu" type="raw"/>
      <source file="{disk}"/>
      <target dev="vda" bus="virtio"/>
    </disk>
    <memballoon model="none"/>
  </devices>
</domain>
"""


def accelerator(connection: Any, storage: Path, cache: Path, boot: str) -> Accelerator:
    """``kvm`` where a guest of the host executes in it, else ``qemu`` (emulation).

    Tried once for each ``boot`` id of a host; ``cache`` remembers.
    """
    try:
        known: dict[str, Accelerator] = json.loads(cache.read_text())
    except (FileNotFoundError, ValueError):
        known = {}
    if boot not in known:
        known[boot] = "kvm" if executes(connection, storage) else "qemu"
        write_atomically(cache, json.dumps(known))
    return known[boot]


def executes(connection: Any, storage: Path, patience: float = PATIENCE) -> bool:
    """Whether a KVM guest of this host runs its boot sector within ``patience`` seconds."""
    disk = storage / f"trial-{uuid.uuid4()}.raw"
    disk.write_bytes(BOOT_SECTOR.ljust(1 << 16, b"\0"))
    domain = None
    try:
        domain = connection.createXML(_TRIAL.format(name=disk.stem, disk=disk), libvirt.VIR_DOMAIN_START_AUTODESTROY)
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            if not domain.isActive():
                domain = None
                return True
            time.sleep(0.05)
        return False
    except libvirt.libvirtError:
        # no KVM at all; or, of isActive, the transient domain is gone, which is what is waited for
        return domain is not None
    finally:
        if domain is not None:
            with suppress(libvirt.libvirtError):
                domain.destroy()
        disk.unlink(missing_ok=True)
