"""A hypervisor for tests whose appliances are virtual machines of the built image, run by QEMU directly.

Guests, hosts of the outside and all segments are those of the namespace hypervisor, on whose bridges the machines'
taps are. So every test that uses the lab interface can use it.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from appliance.run import run
from controlplane.hypervisors.base import ApplianceSpec, HypervisorError, Instance, Nic, Power
from controlplane.hypervisors.bridges import bridge_name, port_name
from controlplane.hypervisors.namespace.driver import NamespaceHypervisor
from controlplane.hypervisors.portfilter.model import port_of
from tests.vm import ssh
from tests.vm.accelerator import machine_options

#: bytes of a state disk
STATE_SIZE = 64 << 20
#: seconds a machine has to end after its power button was pressed
POWER_OFF = 60.0


@dataclass
class Vm:
    """One virtual machine; its files are in ``folder``, and stay when it is off."""

    spec: ApplianceSpec
    folder: Path
    #: credentials beyond the identity, name without prefix -> content
    credentials: dict[str, bytes] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    @property
    def state_disk(self) -> Path:
        return self.folder / "state.raw"

    @property
    def serial(self) -> Path:
        return self.folder / "serial.log"

    @property
    def monitor(self) -> Path:
        return self.folder / "qmp"

    @property
    def key(self) -> Path:
        return self.folder / "admin"


class QemuHypervisor(NamespaceHypervisor):
    """Routers as virtual machines, the rest as namespaces."""

    def __init__(self, directory: Path, image: Path, **options: Any) -> None:
        super().__init__(directory, **options)
        self._image = image
        self.vms: dict[str, Vm] = {}
        #: ids of appliances that are namespaces nevertheless
        self.in_namespaces: set[str] = set()

    # ---- machines

    def start_appliance(self, spec: ApplianceSpec) -> None:
        if spec.id in self.in_namespaces:
            return super().start_appliance(spec)
        self.boot(self.vms.get(spec.id) or self._make(spec))
        return None

    def _make(self, spec: ApplianceSpec) -> Vm:
        folder = self.directory / "vms" / spec.id
        folder.mkdir(parents=True, mode=0o700)
        vm = self.vms[spec.id] = Vm(spec, folder, dict(spec.identity))
        vm.credentials["authorized_keys"] = ssh.new_key(vm.key)
        vm.credentials["hostname"] = spec.hostname.encode()
        vm.state_disk.touch(mode=0o600)
        os.truncate(vm.state_disk, STATE_SIZE)
        return vm

    def boot(self, vm: Vm) -> None:
        """Power on, with the credentials that ``vm`` has now."""
        if vm.process is not None and vm.process.poll() is None:
            return
        for path in vm.folder.glob("credential.*"):
            path.unlink()
        given = []
        for name, content in vm.credentials.items():
            path = vm.folder / f"credential.{name}"
            path.touch(mode=0o600)
            path.write_bytes(content)
            given += ["-fw_cfg", f"name=opt/io.systemd.credentials/gatehouse.{name},file={path}"]
        vm.monitor.unlink(missing_ok=True)
        argv = [
            *self.inside("qemu-system-x86_64"),
            *machine_options(vm.spec.cpus),
            "-m",
            str(vm.spec.memory_mb),
            *DEVICES,
            *drive("root", self._image, "qcow2", "snapshot=on"),
            *drive("gatehouse-state", vm.state_disk, "raw"),
            *self._nics(vm),
            *given,
            "-serial",
            f"file:{vm.serial}",
            "-qmp",
            f"unix:{vm.monitor},server=on,wait=off",
        ]
        with (vm.folder / "qemu.log").open("ab") as log:
            vm.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def _nics(self, vm: Vm) -> list[str]:
        options = []
        for number, nic in enumerate(vm.spec.nics):
            tap = self.wire(vm.spec.id, nic)
            options += ["-netdev", f"tap,id=n{number},ifname={tap},script=no,downscript=no"]
            options += ["-device", f"virtio-net-pci,netdev=n{number},mac={nic.mac}"]
        return options

    def wire(self, instance_id: str, nic: Nic) -> str:
        """The tap of a machine's NIC, on the bridge of the NIC's segment; its name."""
        tap = port_name(instance_id, nic.mac)
        if not self._ok("ip", "link", "show", tap):
            run(self.inside("ip", "tuntap", "add", tap, "mode", "tap"))
        # as for an appliance in a namespace: no filter of what it sends, for it routes
        self._filter.set(tap, port_of(nic, appliance=True))
        run(self.inside("ip", "link", "set", tap, "master", bridge_name(nic.segment), "up"))
        return tap

    def move_nic(self, instance_id: str, mac: str, segment: str) -> None:
        """Plug a NIC into another segment, as if its cable was."""
        vm = self.vms[instance_id]
        nics = tuple(replace(nic, segment=segment) if nic.mac == mac else nic for nic in vm.spec.nics)
        vm.spec = replace(vm.spec, nics=nics)
        run(self.inside("ip", "link", "set", port_name(instance_id, mac), "master", bridge_name(segment)))

    def stop(self, instance_id: str, *, force: bool = False) -> None:
        vm = self.vms.get(instance_id)
        if vm is None:
            return super().stop(instance_id, force=force)
        if vm.process is None:
            return None
        if not force:
            self.command_monitor(vm, "system_powerdown")
            with suppress(subprocess.TimeoutExpired):
                vm.process.wait(POWER_OFF)
        self.cut_power(instance_id)
        return None

    def cut_power(self, instance_id: str) -> None:
        """What a power cut does: the machine ends at once, its disk as it is."""
        process = self.vms[instance_id].process
        if process is not None:
            process.kill()
            process.wait()
            self.vms[instance_id].process = None
        ssh.forget(self.vms[instance_id].key)

    def command_monitor(self, vm: Vm, command: str) -> None:
        """A command without arguments for QEMU's monitor (QMP)."""
        with socket.socket(socket.AF_UNIX) as monitor:
            monitor.settimeout(10)
            monitor.connect(str(vm.monitor))
            with monitor.makefile("rw") as stream:
                stream.readline()
                for name in ("qmp_capabilities", command):
                    stream.write(json.dumps({"execute": name}) + "\n")
                    stream.flush()
                    while "return" not in (answer := json.loads(stream.readline())):
                        if "error" in answer:
                            raise HypervisorError(f"QEMU refuses {name}: {answer['error']}")

    def destroy(self, instance_id: str) -> None:
        vm = self.vms.pop(instance_id, None)
        if vm is None:
            return super().destroy(instance_id)
        if vm.process is not None:
            vm.process.kill()
            vm.process.wait()
        shutil.rmtree(vm.folder)
        return None

    def purge(self) -> None:
        for name in list(self.vms):
            self.destroy(name)
        super().purge()

    # ---- looking

    def power(self, instance_id: str) -> Power:
        vm = self.vms.get(instance_id)
        if vm is None:
            return super().power(instance_id)
        return "running" if vm.process is not None and vm.process.poll() is None else "stopped"

    def instances(self) -> list[Instance]:
        machines = [Instance(name, "appliance", self.power(name)) for name in self.vms]
        return [*super().instances(), *machines]

    def console_log(self, instance_id: str) -> str:
        vm = self.vms.get(instance_id)
        if vm is None:
            return super().console_log(instance_id)
        logs = (vm.folder / "qemu.log", vm.serial)
        return "".join(path.read_text(errors="replace") for path in logs if path.exists())

    def state_directory(self, instance_id: str) -> Path:
        if instance_id in self.vms:
            raise HypervisorError("the state is on the machine's own disk")
        return super().state_directory(instance_id)

    # ---- reaching in

    def command(self, instance_id: str, argv: Sequence[str]) -> list[str]:
        vm = self.vms.get(instance_id)
        if vm is None:
            return super().command(instance_id, argv)
        address = json.loads(vm.credentials["identity.json"])["control"]["address"].partition("/")[0]
        return self.inside(*ssh.command(vm.key, address, argv))

    def inside(self, *argv: str) -> list[str]:
        """The command in the fabric's network namespace."""
        return ["nsenter", f"--net={self.directory / 'fabric/net'}", *argv]

    def _ok(self, *argv: str) -> bool:
        return run(self.inside(*argv), check=False).returncode == 0


DEVICES = (
    "-nodefaults",
    "-display",
    "none",
    "-vga",
    "none",
    "-no-reboot",
    "-device",
    "virtio-rng-pci",
    "-device",
    "i6300esb",
)


def drive(serial: str, path: Path, form: str, *options: str) -> list[str]:
    """A virtio disk; the first one given is booted from."""
    backend = ",".join([f"file={path}", "if=none", f"id={serial}", f"format={form}", *options])
    return ["-drive", backend, "-device", f"virtio-blk-pci,drive={serial},serial={serial}"]
