"""Settings of remote access VPNs (guide: chapter 15.17.1)."""

from __future__ import annotations

from controlplane.setting import Setting

CLIENT_RANGE = "remote.access.vpn.client.ip.range"
PSK_LENGTH = "remote.access.vpn.psk.length"
USER_LIMIT = "remote.access.vpn.user.limit"

VPN_SETTINGS: tuple[Setting, ...] = (
    Setting(
        CLIENT_RANGE,
        "Network",
        "10.1.2.1-10.1.2.8",
        "Range",
        "Addresses for clients of a remote access VPN that is created without a range; the first one is the server's",
        ("account",),
    ),
    Setting(
        PSK_LENGTH,
        "Network",
        "24",
        "Integer",
        "Characters of the IPsec preshared keys that are made for remote access VPNs",
        minimum=8,
        maximum=256,
    ),
    Setting(USER_LIMIT, "Network", "8", "Integer", "VPN users an account may have", minimum=0),
)
