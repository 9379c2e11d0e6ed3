"""A charon that somebody set up by hand on a machine of the lab, with swanctl's files in a folder of its own."""

from __future__ import annotations

from collections.abc import Mapping

from tests.netns.lab import Machine
from tests.wait import wait_for

#: plugins that do ESP without the kernel
USERSPACE = "kernel-libipsec kernel-netlink"
#: plugins of every one, in strongSwan's own order
_PLUGINS = "aesni random nonce aes sha1 sha2 hmac kdf gcm curve25519 openssl socket-default vici"

_SETTINGS = """
charon-systemd {{
  load = {plugins}
  filelog {{
    stderr {{
      default = 1
    }}
  }}
  journal {{
    default = -1
  }}
  plugins {{
    vici {{
      socket = {socket}
    }}
    resolve {{
      file = /etc/resolv.conf
    }}
    openssl {{
      load_legacy = yes
    }}
  }}
}}
"""


class Strongswan:
    """charon of ``machine``, whose files are in ``folder``; ``plugins``: beyond those that every one has."""

    def __init__(self, machine: Machine, folder: str, plugins: str) -> None:
        self.machine = machine
        self.folder = folder
        self.plugins = plugins

    def begin(self, files: Mapping[str, str]) -> None:
        """Start anew, with these files in swanctl's directory."""
        self.stop()
        settings = _SETTINGS.format(plugins=f"{_PLUGINS} {self.plugins}", socket=self._socket)
        self.machine.run(["mkdir", "-p", f"{self.folder}/x509ca", f"{self.folder}/conf.d"])
        for name, content in {"strongswan.conf": settings, **files}.items():
            self.machine.write(f"{self.folder}/{name}", content)
        self.start()

    def start(self) -> None:
        """Run with what is configured."""
        script = f"exec {' '.join(self._environment)} charon-systemd >>{self.folder}/log 2>&1"
        self.machine.popen(["setsid", "sh", "-c", script])
        wait_for(lambda: self.machine.ok(self.command("--load-all")), 15, "charon to start")

    @property
    def running(self) -> bool:
        return bool(self.machine.pids("charon-systemd"))

    def stop(self) -> None:
        """End without a word to the other side."""
        if self.running:
            self.machine.kill("charon-systemd")
            wait_for(lambda: not self.running, 5, "charon to end")

    def swanctl(self, *arguments: str) -> str:
        return self.machine.run(self.command(*arguments)).stdout

    def command(self, *arguments: str) -> list[str]:
        """The command line of swanctl."""
        return [*self._environment, "swanctl", *arguments, "--uri", self._socket]

    def log(self) -> str:
        return self.machine.read(f"{self.folder}/log")

    @property
    def _socket(self) -> str:
        return f"unix://{self.folder}/charon.vici"

    @property
    def _environment(self) -> tuple[str, ...]:
        return "env", f"STRONGSWAN_CONF={self.folder}/strongswan.conf", f"SWANCTL_DIR={self.folder}"
