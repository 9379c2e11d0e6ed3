"""A hypervisor for the lab: routers are virtual machines through libvirt, the rest are namespaces."""

from __future__ import annotations

import json
import socket
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from controlplane.hypervisors.base import ApplianceSpec, Hypervisor, HypervisorError, Instance, Nic, Power, Segment
from controlplane.hypervisors.bridges import CONTROL
from controlplane.hypervisors.namespace.driver import NamespaceHypervisor
from tests.vm import ssh
from tests.vm.libvirt.site import Site


class MixedHypervisor(NamespaceHypervisor):
    """Every test that uses the lab interface can use it. Segments are shared by both of its site's hosts."""

    def __init__(self, directory: Path, *, image: Path, guest_image: Path, acceleration: Path, **options: Any) -> None:
        super().__init__(directory, **options)
        self.site = Site(directory / "site", guest_image, acceleration, system_image=image, cheap=self)
        self.machines = self.site.hypervisor
        self._key = directory / "admin"
        self._addresses: dict[str, str] = {}

    def open(self) -> None:
        super().open()
        self.site.open()

    def purge(self) -> None:
        try:
            self.site.close()
        finally:
            super().purge()

    # ---- networks

    def ensure_segment(self, segment: Segment) -> None:
        if segment.name not in (*self.segments(), CONTROL):
            self.site.segment(segment.name, segment.mtu)

    def remove_segment(self, name: str) -> None:
        self.machines.remove_segment(name)
        super().remove_segment(name)

    def connect(self, address: str, port: int, timeout: float) -> socket.socket:
        return self.machines.connect(address, port, timeout)

    # ---- machines

    def start_appliance(self, spec: ApplianceSpec) -> None:
        if not self._key.exists():
            ssh.new_key(self._key)
        address = json.loads(spec.identity["identity.json"])["control"]["address"]
        self._addresses[spec.id] = address.partition("/")[0]
        identity = {**spec.identity, "authorized_keys": self._key.with_suffix(".pub").read_bytes()}
        self.machines.start_appliance(replace(spec, identity=identity))

    def stop(self, instance_id: str, *, force: bool = False) -> None:
        self._of(instance_id).stop(instance_id, force=force)

    def destroy(self, instance_id: str) -> None:
        self._of(instance_id).destroy(instance_id)
        self._addresses.pop(instance_id, None)

    def attach_nic(self, instance_id: str, nic: Nic) -> None:
        self._of(instance_id).attach_nic(instance_id, nic)

    def detach_nic(self, instance_id: str, mac: str) -> None:
        self._of(instance_id).detach_nic(instance_id, mac)

    def set_rate(self, instance_id: str, mac: str, rate_mbit: int) -> None:
        self._of(instance_id).set_rate(instance_id, mac, rate_mbit)

    def power(self, instance_id: str) -> Power:
        return self._of(instance_id).power(instance_id)

    def instances(self) -> list[Instance]:
        return [*super().instances(), *self.machines.instances()]

    def console_log(self, instance_id: str) -> str:
        return self._of(instance_id).console_log(instance_id)

    def state_directory(self, instance_id: str) -> Path:
        if instance_id in self._addresses:
            raise HypervisorError("the state is on the machine's own disk")
        return super().state_directory(instance_id)

    def command(self, instance_id: str, argv: Sequence[str]) -> list[str]:
        if instance_id in self._addresses:
            words = ssh.command(self._key, self._addresses[instance_id], argv)
            return ["nsenter", f"--net={self.site.pin}", *words]
        return super().command(instance_id, argv)

    def _of(self, instance_id: str) -> Hypervisor:
        own: Any = super()
        return self.machines if instance_id in self._addresses else own
