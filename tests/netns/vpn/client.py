"""A person's device with strongSwan's IKEv2 client, as a profile would set it up."""

from __future__ import annotations

import re
from collections.abc import Mapping

from tests.netns.lab import Machine
from tests.netns.vpn.strongswan import USERSPACE, Strongswan

FOLDER = "/etc/client"
_PLUGINS = "pem x509 pkcs1 pkcs8 pubkey constraints eap-identity eap-mschapv2 resolve"

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


class Ikev2Client(Strongswan):
    """The device, and the server it knows: its address, its name and the authority (PEM) it trusts.

    ``plane``: plugins of charon that do ESP.
    """

    def __init__(self, machine: Machine, server: str, identity: str, authority: str, *, plane: str = USERSPACE) -> None:
        super().__init__(machine, FOLDER, f"{_PLUGINS} {plane}")
        self.server = server
        self.identity = identity
        self.authority = authority

    def connect(self, user: str, password: str, patience: int = 30) -> bool:
        """Whether it connects within ``patience`` seconds; with a new charon each time."""
        swanctl = _SWANCTL.format(server=self.server, identity=self.identity, user=user, password=password)
        return self.connect_by({"x509ca/authority.pem": self.authority, "swanctl.conf": swanctl}, "vpn", patience)

    def connect_by(self, files: Mapping[str, str], child: str, patience: int = 30) -> bool:
        """The same by files in swanctl's directory; ``patience``: seconds that it may take."""
        self.begin(files)
        argv = self.command("--initiate", "--child", child, "--timeout", str(patience))
        return self.machine.ok(argv, timeout=patience + 10)

    def disconnect(self) -> None:
        self.swanctl("--terminate", "--ike", "vpn")

    @property
    def connected(self) -> bool:
        return "ESTABLISHED" in self.swanctl("--list-sas")

    @property
    def address(self) -> str:
        """The one it got inside."""
        found = re.search(r"local +'.*' @ .*\[([\d.]+)\]", self.swanctl("--list-sas"))
        assert found is not None, self.log()
        return found[1]
