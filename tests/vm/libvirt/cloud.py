"""``gatehouse serve --hypervisor libvirt`` as a process, and an internet on its host."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
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
from tests.netns.controlplane.cloud import GATEHOUSE, WEB, Cloud
from tests.vm import ssh
from tests.vm.libvirt.site import BOOT, inside
from tests.wait import wait_for

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
        #: of an administrator who may log in to appliances
        self._key = directory / "administrator"
        options = ["--hypervisor", "libvirt", "--libvirt-uri", self.daemon.uri, "--system-image", str(image)]
        keys = ["--ssh-keys", str(self._key.with_suffix(".pub"))]
        super().__init__(directory, (*GATEHOUSE, "serve", *options, *keys))
        self.storage = directory / "data-storage"
        self.machines = self.driver()
        self._internet: list[subprocess.Popen[bytes]] = []

    def driver(self) -> LibvirtHypervisor:
        """A driver beside the control plane's, for looking and for running commands in guests."""
        return LibvirtHypervisor(self.data / "libvirt", self.storage, uri=self.daemon.uri)

    def open(self) -> None:
        """The host: a network namespace with a libvirt daemon, and the templates of guests beside the guest image."""
        self.pin.touch()
        run(["unshare", f"--net={self.pin}", "true"])
        inside(self.pin, "ip", "link", "set", "lo", "up")
        self.daemon.start()
        (self.storage / "templates").mkdir(parents=True)
        for image in self._guest_image.parent.glob("*.qcow2"):
            shutil.copy(image, self.storage / "templates")
        ssh.new_key(self._key)
        known = self.data / "libvirt/hosts/acceleration.json"
        known.parent.mkdir(parents=True)
        if self._acceleration.exists():
            shutil.copy(self._acceleration, known)
        self.start()
        shutil.copy(known, self._acceleration)

    def remove(self) -> None:
        for process in self._internet:
            process.kill()
            process.wait()
        try:
            self.empty()
        finally:
            self.daemon.stop()
            syscalls.unmount(self.pin)

    def empty(self) -> None:
        """End the control plane and destroy what it ran, on all of its hosts."""
        if self.process is not None:
            self.kill()
        owner = self.driver()
        owner.open()
        owner.purge()

    def client(self, key: str, secret: str, *, wait: bool = True) -> CloudStack:
        """A client with patience for machines that boot in emulation."""
        api = super().client(key, secret, wait=wait)
        api.job_timeout = 900
        api.poll_interval = 0.5
        return api

    def sh(self, vm: str, script: str) -> CompletedProcess[str]:
        """Run a shell script in a guest, once its agent answers."""
        return wait_for(partial(self.machines.execute, vm, ["/bin/sh", "-c", script]), BOOT, f"{vm} to boot")

    def in_appliance(self, address: str, argv: Sequence[str]) -> list[str]:
        """The words that run a command in the appliance at that control address, as an administrator."""
        return ["nsenter", f"--net={self.pin}", *ssh.command(self._key, address, argv)]

    def label(self, labels: Mapping[str, str], physical: str = "") -> None:
        """Say what interface of each host carries a type of traffic, of the zone's physical network or of that one."""
        physical = physical or self.admin.listPhysicalNetworks()["physicalnetwork"][0]["id"]
        for kind in self.admin.listTrafficTypes(physicalnetworkid=physical)["traffictype"]:
            if kind["traffictype"] in labels:
                self.admin.updateTrafficType(id=kind["id"], kvmnetworklabel=labels[kind["traffictype"]])

    def connect_uplink(self, bridge: str = "uplink") -> None:
        """Public traffic on a bridge of the host's own, as an operator sets it up; the outside is plugged into it."""
        inside(self.pin, "ip", "link", "add", bridge, "type", "bridge")
        inside(self.pin, "ip", "link", "set", bridge, "up")
        self.label({"Public": bridge})
        self.plug_outside(bridge)

    def connect_outside(self) -> None:
        """A machine with the public range's gateway and a web server that tells who asks."""
        self.plug_outside()
        self._internet.append(subprocess.Popen([*self.outside(), sys.executable, "-c", _SERVER]))

    def plug_outside(self, bridge: str = "") -> None:
        """A machine with the public range's gateway on the host's public bridge; what it runs ends with it.

        Without ``bridge`` it is the control plane's, which is there with the first router.
        """
        public = self.admin.listVlanIpRanges()["vlaniprange"][0]
        bridge = bridge or bridge_name(public_segment(public["physicalnetworkid"], public["vlan"]))
        apart = ["unshare", "--net", "--mount-proc", "--pid", "--fork", "--kill-child=KILL"]
        script = "mount -t tmpfs tmpfs /run && touch /run/ready && exec sleep infinity"
        holder = subprocess.Popen([*apart, "sh", "-c", script])
        self._internet.append(holder)
        wait_for(lambda: run([*self.outside(), "test", "-e", "/run/ready"]), 5, "the outside's namespaces")
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

    def outside(self) -> list[str]:
        """The words that run a command on the outside."""
        pid = self._internet[0].pid
        return ["nsenter", "-t", str(pid), "--net", "--mount", f"--pid=/proc/{pid}/ns/pid_for_children"]

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


@contextmanager
def virtual_cloud(image: Path, guest_image: Path, acceleration: Path) -> Iterator[VirtualCloud]:
    """A control plane with a host, until the block ends; its log is shown beside a failure."""
    directory = Path(tempfile.mkdtemp(prefix="gatehouse-libvirt-cloud-"))
    made = VirtualCloud(directory, image, guest_image, acceleration)
    try:
        made.open()
        yield made
    finally:
        if made.log.exists():
            print(made.text_log())
        made.remove()
        shutil.rmtree(directory)
