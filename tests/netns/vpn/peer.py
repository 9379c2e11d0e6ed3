"""A VPN gateway that somebody set up by hand: plain strongSwan with a configuration in files.

It is one machine: the networks behind it are addresses of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Network

from tests.netns.lab import Lab, Machine
from tests.wait import wait_for

FOLDER = "/etc/peer"
_SOCKET = f"unix://{FOLDER}/charon.vici"
_ENVIRONMENT = ("env", f"STRONGSWAN_CONF={FOLDER}/strongswan.conf", f"SWANCTL_DIR={FOLDER}")

_STRONGSWAN = """
charon-systemd {{
  load = random nonce aes sha1 sha2 md5 hmac kdf gcm curve25519 openssl {plane} socket-default vici
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
  }}
}}
"""

_SWANCTL = """
connections {{
  office {{
    version = {version}
    local_addrs = {address}
    remote_addrs = {remote}
    proposals = {ike}
    encap = {encap}
    {options}
    local {{
      auth = psk
      id = {identity}
    }}
    remote {{
      auth = psk
      id = {remote}
    }}
    children {{
      {children}
    }}
  }}
}}
secrets {{
  ike-office {{
    secret = {psk}
  }}
}}
"""

_CHILD = """
      office-{number} {{
        local_ts = {local}
        remote_ts = {remote}
        esp_proposals = {esp}
        start_action = {start}
      }}
"""


@dataclass
class Peer:
    """The machine, its address and the networks behind it; it has the tenth address of each."""

    machine: Machine
    address: str
    networks: tuple[str, ...]
    #: plugins of charon that do ESP
    plane: str = "kernel-libipsec kernel-netlink"

    def configure(
        self,
        remote: str,
        remote_networks: tuple[str, ...],
        *,
        psk: str,
        version: int,
        ike: str,
        esp: str,
        split: bool = False,
        call: bool = False,
        identity: str = "",
        encap: bool = False,
        options: str = "",
        networks: tuple[str, ...] | None = None,
    ) -> None:
        """Start anew with one connection to ``remote``; ``call``: set it up from here.

        ``split``: a child for each pair of networks. ``options``: further lines of swanctl.conf(5) for the connection.
        ``networks``: those of this side, without all.
        """
        self.stop()
        here, there = list(networks or self.networks), list(remote_networks)
        pairs = [(one, other) for one in here for other in there] if split else [(", ".join(here), ", ".join(there))]
        start = "start" if call else "none"
        children = "".join(
            _CHILD.format(number=number, local=local, remote=other, esp=esp, start=start)
            for number, (local, other) in enumerate(pairs)
        )
        swanctl = _SWANCTL.format(
            version=version,
            address=self.address,
            remote=remote,
            ike=ike,
            encap="yes" if encap else "no",
            options=options,
            identity=identity or self.address,
            children=children,
            psk=psk,
        )
        self.machine.run(["mkdir", "-p", FOLDER])
        self.machine.write(f"{FOLDER}/strongswan.conf", _STRONGSWAN.format(plane=self.plane, socket=_SOCKET))
        self.machine.write(f"{FOLDER}/swanctl.conf", swanctl)
        self.start()

    def start(self) -> None:
        """Run with what is configured."""
        script = f"exec {' '.join(_ENVIRONMENT)} charon-systemd >>{FOLDER}/log 2>&1"
        self.machine.popen(["setsid", "sh", "-c", script])
        wait_for(lambda: self.swanctl("--load-all"), 15, "the peer's charon")

    def stop(self) -> None:
        """End it without a word to the other side."""
        if self.machine.pids("charon-systemd"):
            self.machine.kill("charon-systemd")
            wait_for(lambda: not self.machine.pids("charon-systemd"), 5, "the peer's charon to end")

    def swanctl(self, *arguments: str) -> str:
        return self.machine.run([*_ENVIRONMENT, "swanctl", *arguments, "--uri", _SOCKET]).stdout

    def log(self) -> str:
        return self.machine.read(f"{FOLDER}/log")


def peer(lab: Lab, outside: str, address: str, networks: tuple[str, ...], gateway: str | None = None) -> Peer:
    """A peer on segment ``outside`` with ``address`` (without prefix length; of a /24)."""
    machine = lab.host("peer", outside, [f"{address}/24"], gateway)
    for network in networks:
        machine.run(["ip", "address", "add", f"{IPv4Network(network)[10]}/32", "dev", "lo"])
    return Peer(machine, address, networks)
