"""A VPN gateway that somebody set up by hand: plain strongSwan with a configuration in files.

It is one machine: the networks behind it are addresses of its own.
"""

from __future__ import annotations

from ipaddress import IPv4Network

from tests.netns.lab import Lab, Machine
from tests.netns.vpn.strongswan import USERSPACE, Strongswan

FOLDER = "/etc/peer"

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


class Peer(Strongswan):
    """The machine, its address and the networks behind it; it has the tenth address of each.

    ``plane``: plugins of charon that do ESP.
    """

    def __init__(
        self,
        machine: Machine,
        address: str,
        networks: tuple[str, ...],
        plane: str = USERSPACE,
    ) -> None:
        super().__init__(machine, FOLDER, f"md5 {plane}")
        self.address = address
        self.networks = networks

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
        self.begin({"swanctl.conf": swanctl})


def peer(lab: Lab, outside: str, address: str, networks: tuple[str, ...], gateway: str | None = None) -> Peer:
    """A peer on segment ``outside`` with ``address`` (without prefix length; of a /24)."""
    machine = lab.host("peer", outside, [f"{address}/24"], gateway)
    for network in networks:
        machine.run(["ip", "address", "add", f"{IPv4Network(network)[10]}/32", "dev", "lo"])
    return Peer(machine, address, networks)
