"""Another host: a libvirt daemon in a network namespace of its own, with an SSH server."""

from __future__ import annotations

from pathlib import Path

from appliance.run import run
from controlplane.hypervisors import syscalls
from tests.libvirtd import Libvirtd
from tests.vm.libvirt.site import lay_cable
from tests.vm.libvirt.sshserver import SshServer


class Second:
    """Its interface ``wan`` is joined with that of the host in network namespace ``first``."""

    def __init__(self, directory: Path, first: Path) -> None:
        self._first, self.pin = first, directory / "net2"
        self.daemon = Libvirtd(directory / "libvirtd2", self.pin)
        self.ssh = SshServer(directory / "ssh2", self.daemon.enter)
        self.url = f"qemu+ssh://root@127.0.0.1:{self.ssh.port}/system?socket={self.daemon.directory}/sock/libvirt-sock"

    def open(self) -> None:
        self.pin.touch()
        run(["unshare", f"--net={self.pin}", "true"])
        lay_cable(self._first, self.pin, "wan", "198.51.100")
        self.daemon.start()

    def close(self) -> None:
        self.ssh.close()
        self.daemon.stop()
        syscalls.unmount(self.pin)

    def run(self, *argv: str) -> str:
        """Run a command on the host."""
        return run([*self.daemon.enter(), *argv]).stdout
