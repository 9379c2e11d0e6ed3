"""A person's device with strongSwan's IKEv2 client, as a profile would set it up."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from tests.netns.lab import Machine
from tests.wait import wait_for

FOLDER = "/etc/client"
_SOCKET = f"unix://{FOLDER}/charon.vici"
_ENVIRONMENT = ("env", f"STRONGSWAN_CONF={FOLDER}/strongswan.conf", f"SWANCTL_DIR={FOLDER}")

_STRONGSWAN = f"""
charon-systemd {{
  load = random nonce aes sha1 sha2 hmac kdf gcm curve25519 openssl pem x509 pkcs1 pkcs8 pubkey constraints \
    eap-identity eap-mschapv2 kernel-libipsec kernel-netlink resolve socket-default vici
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
      socket = {_SOCKET}
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

_SWANCTL = """
connections {{
  vpn {{
    version = 2
    remote_addrs = {server}
    vips = 0.0.0.0
    local {{
      auth = eap-mschapv2
      eap_id = {user}
    }}
    remote {{
      auth = pubkey
      id = {identity}
    }}
    children {{
      vpn {{
        remote_ts = 0.0.0.0/0
      }}
    }}
  }}
}}
secrets {{
  eap-vpn {{
    id = {user}
    secret = "{password}"
  }}
}}
"""


@dataclass
class Ikev2Client:
    """The device, and the server it knows: its address, its name and the authority (PEM) it trusts."""

    machine: Machine
    server: str
    identity: str
    authority: str

    def connect(self, user: str, password: str) -> bool:
        """Whether it connects; with a new charon each time."""
        swanctl = _SWANCTL.format(server=self.server, identity=self.identity, user=user, password=password)
        return self.connect_by({"x509ca/authority.pem": self.authority, "swanctl.conf": swanctl}, "vpn")

    def connect_by(self, files: Mapping[str, str], child: str, patience: int = 30) -> bool:
        """The same by files in swanctl's directory; ``patience``: seconds that it may take."""
        self.stop()
        self.machine.run(["mkdir", "-p", f"{FOLDER}/x509ca", f"{FOLDER}/conf.d"])
        for name, content in {"strongswan.conf": _STRONGSWAN, **files}.items():
            self.machine.write(f"{FOLDER}/{name}", content)
        script = f"exec {' '.join(_ENVIRONMENT)} charon-systemd >>{FOLDER}/log 2>&1"
        self.machine.popen(["setsid", "sh", "-c", script])
        wait_for(lambda: self.machine.ok(self._swanctl("--load-all")), 15, "the client's charon")
        argv = self._swanctl("--initiate", "--child", child, "--timeout", str(patience))
        return self.machine.ok(argv, timeout=patience + 10)

    def stop(self) -> None:
        """End without a word to the server."""
        if self.machine.pids("charon-systemd"):
            self.machine.kill("charon-systemd")
            wait_for(lambda: not self.machine.pids("charon-systemd"), 5, "the client's charon to end")

    def disconnect(self) -> None:
        self.machine.run(self._swanctl("--terminate", "--ike", "vpn"))

    @property
    def connected(self) -> bool:
        return "ESTABLISHED" in self.machine.run(self._swanctl("--list-sas")).stdout

    @property
    def address(self) -> str:
        """The one it got inside."""
        found = re.search(r"local +'.*' @ .*\[([\d.]+)\]", self.machine.run(self._swanctl("--list-sas")).stdout)
        assert found is not None, self.log()
        return found[1]

    def log(self) -> str:
        return self.machine.read(f"{FOLDER}/log")

    @staticmethod
    def _swanctl(*arguments: str) -> list[str]:
        return [*_ENVIRONMENT, "swanctl", *arguments, "--uri", _SOCKET]
