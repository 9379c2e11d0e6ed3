"""Hosts for tests: a libvirt daemon in a network namespace of its own, and beside it one whose guests are namespaces.

They are joined by a cable, over which they share segments as VXLANs: guests that are cheap to make reach those that
are virtual machines.
"""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path
from subprocess import CompletedProcess

from appliance.run import run
from controlplane.hypervisors import syscalls
from controlplane.hypervisors.base import Segment, Wire
from controlplane.hypervisors.libvirt.driver import LibvirtHypervisor
from controlplane.hypervisors.namespace.driver import NamespaceHypervisor
from tests.libvirtd import Libvirtd
from tests.wait import wait_for

#: seconds for the small guest to boot in emulation on a busy machine; it takes about seven on an idle one
BOOT = 90.0


#: a segment's frames of 1500 bytes in VXLANs
CABLE_MTU = 1550


class Site:
    """Two hosts. ``cheap`` has namespaces, ``hypervisor`` virtual machines."""

    def __init__(
        self,
        directory: Path,
        guest_image: Path,
        acceleration: Path,
        *,
        system_image: Path | None = None,
        cheap: NamespaceHypervisor | None = None,
    ) -> None:
        self.directory = directory
        self.image, self._system_image = guest_image, system_image or guest_image
        self._acceleration = acceleration
        self._shared = cheap is not None
        self.cheap = cheap or NamespaceHypervisor(directory / "namespace", data=directory)
        self.pin = directory / "net"
        self.daemon = Libvirtd(directory / "libvirtd", self.pin)
        self.hypervisor = self.driver()
        self._tags = itertools.count(5)

    def driver(self) -> LibvirtHypervisor:
        """A driver on the site's directories, as a control plane that starts makes it."""
        return LibvirtHypervisor(
            self.directory / "libvirt", self.directory / "storage", uri=self.daemon.uri, system_image=self._system_image
        )

    def open(self) -> None:
        if not self._shared:
            self.cheap.open()
        self.directory.mkdir(exist_ok=True)
        self.pin.touch()
        run(["unshare", f"--net={self.pin}", "true"])
        inside(self.pin, "ip", "link", "set", "lo", "up")
        lay_cable(self.pin, self.cheap.directory / "fabric/net", "cable", "192.0.2")
        self.daemon.start()
        known = self.directory / "libvirt/hosts/acceleration.json"
        known.parent.mkdir(parents=True)
        if self._acceleration.exists():
            shutil.copy(self._acceleration, known)
        self.hypervisor.open()
        shutil.copy(known, self._acceleration)
        shutil.copy(self.image, self.hypervisor.storage.templates / "builtin.qcow2")

    def close(self) -> None:
        try:
            self.hypervisor.open()
            self.hypervisor.purge()
        finally:
            self.daemon.stop()
            syscalls.unmount(self.pin)
            self.pin.unlink()

    def segment(self, name: str, mtu: int = 1500) -> Segment:
        """A segment that both hosts have."""
        segment = Segment(name, mtu, Wire("cable", "vxlan", next(self._tags)))
        NamespaceHypervisor.ensure_segment(self.cheap, segment)
        self.hypervisor.ensure_segment(segment)
        return segment

    def host(self, *argv: str) -> str:
        """Run a command in the host's network namespace."""
        return inside(self.pin, *argv)

    def guest(self, instance_id: str, script: str) -> CompletedProcess[str]:
        """Run a shell script in a virtual machine, once it is up."""
        argv = ["/bin/sh", "-c", script]
        return wait_for(lambda: self.hypervisor.execute(instance_id, argv), BOOT, f"{instance_id} to boot")


def lay_cable(one: Path, two: Path, name: str, subnet: str) -> None:
    """Join two network namespaces: in each is an interface ``name``, with address .1 and .2 of ``subnet``."""
    inside(one, "ip", "link", "add", name, "mtu", str(CABLE_MTU), "type", "veth", "peer", "name", "peer")
    inside(one, "ip", "link", "set", "peer", "netns", str(two))
    inside(two, "ip", "link", "set", "peer", "mtu", str(CABLE_MTU), "name", name)
    for number, pin in enumerate((one, two), 1):
        inside(pin, "ip", "address", "add", f"{subnet}.{number}/24", "dev", name)
        inside(pin, "ip", "link", "set", name, "up")


def inside(pin: Path, *argv: str) -> str:
    """Run a command in the network namespace at ``pin``; its output."""
    return run(["nsenter", f"--net={pin}", *argv]).stdout
