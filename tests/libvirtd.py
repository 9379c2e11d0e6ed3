"""A libvirt daemon of the tests' own: all it has in one directory, and in any network namespace."""

from __future__ import annotations

import signal
import subprocess
import uuid
from contextlib import suppress
from pathlib import Path

from tests.wait import wait_for

_DAEMON = """
unix_sock_dir = "{0}/sock"
auth_unix_ro = "none"
auth_unix_rw = "none"
log_outputs = "3:file:{0}/libvirtd.log"
host_uuid = "{1}"
"""

# a machine without systemd or control groups to share: no virtlogd, no groups, no security driver
_QEMU = """
user = "root"
group = "root"
security_driver = "none"
namespaces = []
cgroup_controllers = []
stdio_handler = "file"
remember_owner = 0
"""


#: of the daemon's directory -> where it looks
_PLACES = {"etc/libvirt": "/etc/libvirt", "run": "/run/libvirt", "lib": "/var/lib/libvirt"}
#: What it learnt of QEMU, which takes ten seconds. All daemons share it, also later ones: libvirt sees for itself
#: whether QEMU, the kernel or libvirt have changed since.
_CACHE = Path(__file__).resolve().parents[1] / "build/libvirt-cache"


class Libvirtd:
    """Runs between ``start`` and ``stop``; the machines it runs outlive it, as in production."""

    def __init__(self, directory: Path, namespace: Path | None = None) -> None:
        self.directory = directory
        self._namespace = namespace
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def uri(self) -> str:
        return f"qemu:///system?socket={self.directory}/sock/libvirt-sock"

    def start(self) -> None:
        """Start it and wait until its socket answers."""
        for path in (_CACHE, *(self.directory / name for name in ("sock", *_PLACES))):
            path.mkdir(parents=True, exist_ok=True)
        (self.directory / "libvirtd.conf").write_text(_DAEMON.format(self.directory, uuid.uuid4()))
        (self.directory / "etc/libvirt/qemu.conf").write_text(_QEMU)
        command = ["libvirtd", "-f", str(self.directory / "libvirtd.conf"), "-p", str(self.directory / "pid")]
        # its compiled-in directories are the machine's: those of this one are laid over them in a mount namespace
        # and so is /sys, which must show this network namespace's interfaces; what runs there has a /run of its own
        places = {self.directory / own: place for own, place in _PLACES.items()} | {_CACHE: "/var/cache/libvirt"}
        binds = " ".join(f"{own}:{place}" for own, place in places.items())
        script = (
            f'mount -t sysfs sysfs /sys; mount -t tmpfs tmpfs /run; for d in {binds}; do mkdir -p "${{d#*:}}"; '
            'mount --bind "${d%%:*}" "${d#*:}"; done; exec "$@"'
        )
        enter = ["nsenter", f"--net={self._namespace}"] if self._namespace else []
        with (self.directory / "output").open("ab") as output:
            self._process = subprocess.Popen(
                [*enter, "unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh", *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        wait_for(self._answers, 20, "libvirtd to answer")

    def enter(self) -> list[str]:
        """The words that run a command beside the daemon, on what it takes for the machine; while it runs."""
        if self._process is None:
            raise RuntimeError("the machine is down")
        return ["nsenter", "-t", str(self._process.pid), "--mount", "--net"]

    def _answers(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise RuntimeError(f"libvirtd ended: {self.log()}")
        return (self.directory / "sock/libvirt-sock").exists()

    def stop(self) -> None:
        """End the daemon, not its machines."""
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(10)
            if self._process.poll() is None:
                self._process.kill()
                self._process.wait(10)
            self._process = None

    def log(self) -> str:
        paths = (self.directory / "output", self.directory / "libvirtd.log")
        return "\n".join(path.read_text(errors="replace")[-3000:] for path in paths if path.exists())
