"""``gatehouse serve --hypervisor libvirt`` as a process, and an internet on its host."""

from __future__ import annotations

import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path
from subprocess import CompletedProcess

from cs import CloudStack

from appliance.run import run
from controlplane.convergence.intent.rows import public_segment
from controlplane.hypervisors import syscalls
from controlplane.hypervisors.bridges import bridge_name
from controlplane.hypervisors.libvirt.driver import LibvirtHypervisor
from tests.libvirtd import Libvirtd
from tests.netns.controlplane.cloud import GATEHOUSE, Cloud
from tests.vm.libvirt.site import BOOT, inside
from tests.wait import wait_for

WEB = "198.51.100.80"
#: answers with the address that it was asked from
_SERVER = """
import http.server
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = self.client_address[0].encode()
        self.send_response(200); self.send_header("Content-Length", str(len(body))); self.end_headers()
        self.wfile.write(body)
    def log_message(self, *arguments): pass
http.server.ThreadingHTTPServer(("", 80), Handler).serve_forever()
"""


class VirtualCloud(Cloud):
    """A control plane whose routers and guests are virtual machines of a libvirt daemon of its own."""

    #: trying KVM where it does not work is among it
    start_patience = 90.0

    def __init__(self, directory: Path, image: Path, guest_image: Path, acceleration: Path) -> None:
        self.directory, self.pin = directory, directory / "net"
        self.daemon = Libvirtd(directory / "libvirtd", self.pin)
        self._acceleration, self._guest_image = acceleration, guest_image
        options = ["--hypervisor", "libvirt", "--libvirt-uri", self.daemon.uri, "--system-image", str(image)]
        super().__init__(directory, (*GATEHOUSE, "serve", *options))
        self.storage = directory / "data-storage"
        self.machines = self.driver()
        self._internet: list[subprocess.Popen[bytes]] = []

    def driver(self) -> LibvirtHypervisor:
        """A driver beside the control plane's, for looking and for running commands in guests."""
        return LibvirtHypervisor(self.data / "libvirt", self.storage, uri=self.daemon.uri)

    def open(self) -> None:
        """The host: a network namespace with a libvirt daemon, and the template of the guests."""
        self.pin.touch()
        run(["unshare", f"--net={self.pin}", "true"])
        inside(self.pin, "ip", "link", "set", "lo", "up")
        self.daemon.start()
        (self.storage / "templates").mkdir(parents=True)
        shutil.copy(self._guest_image, self.storage / "templates/builtin.qcow2")
        known = self.data / "libvirt/hosts/acceleration.json"
        known.parent.mkdir(parents=True)
        if self._acceleration.exists():
            shutil.copy(self._acceleration, known)
        self.start()
        shutil.copy(known, self._acceleration)

    def remove(self) -> None:
        if self.process is not None:
            self.kill()
        for process in self._internet:
            process.kill()
            process.wait()
        owner = self.driver()
        try:
            owner.open()
            owner.purge()
        finally:
            self.daemon.stop()
            syscalls.unmount(self.pin)

    def patient(self, api: CloudStack) -> CloudStack:
        """The client with patience for machines that boot in emulation."""
        api.job_timeout = 400
        api.poll_interval = 0.5
        return api

    def sh(self, vm: str, script: str) -> CompletedProcess[str]:
        """Run a shell script in a guest, once its agent answers."""
        return wait_for(partial(self.machines.execute, vm, ["/bin/sh", "-c", script]), BOOT, f"{vm} to boot")

    def connect_outside(self) -> None:
        """A machine with the public range's gateway on the host's public bridge; it tells who asks."""
        public = self.admin.listVlanIpRanges()["vlaniprange"][0]
        bridge = bridge_name(public_segment(public["physicalnetworkid"], public["vlan"]))
        holder = subprocess.Popen(["unshare", "--net", "sleep", "infinity"])
        self._internet.append(holder)
        own = Path("/proc/self/ns/net").readlink()
        wait_for(lambda: Path(f"/proc/{holder.pid}/ns/net").readlink() != own, 5, "the outside's namespace")
        inside(
            self.pin, "ip", "link", "add", "outside", "type", "veth", "peer", "name", "eth0", "netns", str(holder.pid)
        )
        inside(self.pin, "ip", "link", "set", "outside", "master", bridge, "up")
        for words in (
            ("address", "add", f"{public['gateway']}/24", "dev", "eth0"),
            ("address", "add", f"{WEB}/32", "dev", "eth0"),
            ("link", "set", "lo", "up"),
            ("link", "set", "eth0", "up"),
        ):
            run([*self.outside(), "ip", *words])
        self._internet.append(subprocess.Popen([*self.outside(), sys.executable, "-c", _SERVER]))

    def outside(self) -> list[str]:
        """The words that run a command on the outside."""
        return ["nsenter", "-t", str(self._internet[0].pid), "-n"]

    def domains(self) -> dict[str, int]:
        """Instance -> process of the virtual machines of this cloud."""
        found = {}
        for path in Path("/proc").iterdir():
            if path.name.isdigit():
                try:
                    words = (path / "cmdline").read_bytes().decode(errors="replace")
                except OSError:
                    continue
                if words.startswith("/usr/bin/qemu-system") and str(self.storage) in words:
                    found[words.split("guest=")[1].split(",")[0]] = int(path.name)
        return found
