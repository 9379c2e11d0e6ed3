"""charon's settings, and the way through the firewall for IKE, for ESP and for what comes out of the tunnels.

Traffic of the tunnels goes by an interface of their own, so it never meets source NAT, which is for public interfaces.
What is meant for a tunnel that is down is dropped: it must not leave in the clear.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Network, collapse_addresses
from pathlib import Path

from appliance.engine.service import File, Rendered, Unit
from appliance.netfilter.base import ACCEPT, FORWARD, INPUT
from appliance.netfilter.ruleset import Ruleset, Set, merge
from appliance.settings import Settings
from appliance.templates import fill
from router.document import RouterState
from router.services.vpn.model import Vpn
from router.services.vpn.plane import INTERFACE, MTU, Plane
from router.services.vpn.remote import part as remote

UNIT = "charon"
PROGRAM = "/usr/sbin/charon-systemd"
#: what TCP's headers leave of a packet
MSS = MTU - 40

#: those of every plane. What an earlier one does a later one is not asked for: OpenSSL's AES and SHA are the
#: processor's own, and userspace's ESP takes two thirds of the processor time with them
PLUGINS = (
    "random nonce openssl aes sha1 sha2 md5 hmac kdf gcm chapoly curve25519 "
    "pem x509 pkcs1 pkcs8 pubkey eap-identity eap-mschapv2 socket-default vici"
)


def run_dir(settings: Settings) -> Path:
    """Holds charon's socket."""
    return settings.run_dir / "vpn"


def socket_file(settings: Settings) -> Path:
    return run_dir(settings) / "charon.vici"


def config_file(settings: Settings) -> Path:
    return settings.config_dir / "vpn/strongswan.conf"


def served(state: RouterState | None) -> Vpn | None:
    """What this router has tunnels for now: none when it is empty, nor on standby, where it has no addresses."""
    if state is None or state.vpn is None or not (state.vpn.connections or state.vpn.remote):
        return None
    redundancy = state.interfaces.redundancy
    return None if redundancy is not None and redundancy.state == "standby" else state.vpn


def render(vpn: Vpn, settings: Settings, plane: Plane) -> Rendered:
    """Everything the VPN needs."""
    text = fill(__package__, "strongswan.conf.j2", plugins=f"{plane.plugins} {PLUGINS}", socket=socket_file(settings))
    more = remote.render(vpn.remote, settings, plane)
    return Rendered(
        files={config_file(settings): File(text, mode=0o600), **more.files},
        ruleset=merge([_ruleset(vpn, plane), more.ruleset]),
        units=(
            Unit(
                name=UNIT,
                argv=("/usr/bin/env", f"STRONGSWAN_CONF={config_file(settings)}", PROGRAM),
                capabilities=frozenset({"net_admin", "net_bind_service", "net_raw"}),
                writable=(run_dir(settings),),
            ),
            *more.units,
        ),
    )


def _ruleset(vpn: Vpn, plane: Plane) -> Ruleset:
    ike = "udp dport { 500, 4500 }"
    # means nothing to the kernel unless IKE agreed on it
    esp = ("ip daddr @vpn_addresses meta l4proto esp",) if plane.kernel else ()
    inner = "ip saddr @vpn_remotes ip daddr @vpn_locals"
    clamp = f"tcp flags syn / syn,rst tcp option maxseg size set {MSS}"
    return Ruleset(
        # before the guard accepts what belongs to connections that stand: these outlive a tunnel
        chains={"vpn_forward": "type filter hook forward priority mangle; policy accept;"},
        rules={
            "ingress_services": tuple((300, f"{what} accept") for what in (f"ip daddr @vpn_open {ike}", *esp)),
            INPUT: tuple(
                (300, f"iifname @public_interfaces {what} {ACCEPT}")
                for what in (f"ip daddr @vpn_addresses {ike}", *esp)
            ),
            FORWARD: (
                (300, f'iifname @guest_interfaces oifname "{INTERFACE}" ip daddr @vpn_remotes accept'),
                (300, f'iifname "{INTERFACE}" oifname @guest_interfaces {inner} accept'),
            ),
            "vpn_forward": (
                (150, "oifname @public_interfaces ip daddr @vpn_remotes drop"),
                # the kernel's ICMP errors may be lost on the way, TCP does without them
                (200, f'oifname "{INTERFACE}" {clamp}'),
                (200, f'iifname "{INTERFACE}" {clamp}'),
            ),
        },
        sets={
            "vpn_addresses": Set("type ipv4_addr;", {str(end): "" for end in vpn.ends}),
            "vpn_open": Set("type ipv4_addr;", {str(end): "" for end in vpn.open_ends}),
            "vpn_remotes": _networks(vpn.remote_networks),
            "vpn_locals": _networks(network for one in vpn.connections for network in one.local_networks),
        },
    )


def _networks(networks: Iterable[IPv4Network]) -> Set:
    return Set("type ipv4_addr; flags interval;", {str(one): "" for one in collapse_addresses(networks)})
