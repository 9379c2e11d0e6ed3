"""charon's settings, and the way through the firewall for IKE, for ESP in UDP and for what comes out of the tunnels.

Traffic of the tunnels goes by the interface ``ipsec0``, so it never meets source NAT, which is for public interfaces.
What is meant for a tunnel that is down is dropped: it must not leave in the clear.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Network, collapse_addresses
from pathlib import Path

from appliance.engine.service import File, Rendered, Unit
from appliance.netfilter.base import FORWARD, INPUT
from appliance.netfilter.ruleset import Ruleset, Set
from appliance.settings import Settings
from appliance.templates import fill
from router.document import RouterState
from router.services.vpn.model import Vpn

UNIT = "charon"
PROGRAM = "/usr/sbin/charon-systemd"
#: the tunnels' interface
INTERFACE = "ipsec0"
#: kernel-libipsec's interface takes 1400 bytes (strongSwan's src/libipsec); TCP's headers are 40 of these
MSS = 1360

#: kernel-libipsec does ESP in user space, in UDP, behind a tun device; kernel-netlink does routes and addresses
PLUGINS = (
    "random nonce aes sha1 sha2 md5 hmac kdf gcm chapoly curve25519 openssl kernel-libipsec kernel-netlink "
    "socket-default vici"
)


def run_dir(settings: Settings) -> Path:
    """Holds charon's socket."""
    return settings.run_dir / "vpn"


def socket_file(settings: Settings) -> Path:
    return run_dir(settings) / "charon.vici"


def config_file(settings: Settings) -> Path:
    return settings.config_dir / "vpn/strongswan.conf"


def served(state: RouterState | None) -> Vpn | None:
    """What this router has tunnels for now: none without connections, nor on standby, where it has no addresses."""
    if state is None or state.vpn is None or not state.vpn.connections:
        return None
    redundancy = state.interfaces.redundancy
    return None if redundancy is not None and redundancy.state == "standby" else state.vpn


def render(state: RouterState, settings: Settings) -> Rendered:
    """Everything the VPN needs; nothing at all without connections."""
    vpn = served(state)
    if vpn is None:
        return Rendered()
    text = fill(__package__, "strongswan.conf.j2", plugins=PLUGINS, socket=socket_file(settings))
    return Rendered(
        files={config_file(settings): File(text, mode=0o600)},
        ruleset=_ruleset(vpn),
        units=(
            Unit(
                name=UNIT,
                argv=("/usr/bin/env", f"STRONGSWAN_CONF={config_file(settings)}", PROGRAM),
                capabilities=frozenset({"net_admin", "net_bind_service", "net_raw"}),
                writable=(run_dir(settings),),
            ),
        ),
    )


def _ruleset(vpn: Vpn) -> Ruleset:
    to_charon = "ip daddr @vpn_addresses udp dport { 500, 4500 } accept"
    inner = "ip saddr @vpn_remotes ip daddr @vpn_locals"
    clamp = f"tcp flags syn / syn,rst tcp option maxseg size set {MSS}"
    return Ruleset(
        chains={"vpn_segments": "type filter hook forward priority mangle; policy accept;"},
        rules={
            "ingress_services": ((300, to_charon),),
            INPUT: ((300, f"iifname @public_interfaces {to_charon}"),),
            FORWARD: (
                (150, "oifname @public_interfaces ip daddr @vpn_remotes drop"),
                (300, f'iifname @guest_interfaces oifname "{INTERFACE}" ip daddr @vpn_remotes accept'),
                (300, f'iifname "{INTERFACE}" oifname @guest_interfaces {inner} accept'),
            ),
            # the kernel's ICMP errors may be lost on the way, TCP does without them
            "vpn_segments": (
                (200, f'oifname "{INTERFACE}" {clamp}'),
                (200, f'iifname "{INTERFACE}" {clamp}'),
            ),
        },
        sets={
            "vpn_addresses": Set("type ipv4_addr;", {str(one.local): "" for one in vpn.connections}),
            "vpn_remotes": _networks(network for one in vpn.connections for network in one.remote_networks),
            "vpn_locals": _networks(network for one in vpn.connections for network in one.local_networks),
        },
    )


def _networks(networks: Iterable[IPv4Network]) -> Set:
    return Set("type ipv4_addr; flags interval;", {str(one): "" for one in collapse_addresses(networks)})
