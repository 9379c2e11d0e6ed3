"""One function a kind of client: from the server to the file that the client reads."""

from __future__ import annotations

import base64
import json
import plistlib
from collections.abc import Callable, Mapping
from typing import Any

from appliance.templates import fill
from controlplane.vpnprofiles.model import Profile, Server

#: where a keyfile of NetworkManager finds the certificate of the authority, which it cannot hold
AUTHORITIES = "/etc/NetworkManager/certs"
#: prefix of the identifiers that Apple's devices tell profiles apart by
_PREFIX = "gatehouse.vpn"


def windows_ikev2(server: Server) -> Profile:
    """PowerShell for Windows 10 and 11: the modules VpnClient and PKI of Microsoft's reference."""
    return _windows("windows-ikev2.ps1.j2", server, "IKEv2")


def windows_l2tp(server: Server) -> Profile:
    """The same with L2TP."""
    return _windows("windows-l2tp.ps1.j2", server, "L2TP")


def _windows(template: str, server: Server, kind: str) -> Profile:
    return Profile(
        f"{server.slug}.ps1",
        "text/plain",
        # Windows' own PowerShell takes a script without the mark for one in the system's 8-bit letters
        "\ufeff" + fill(__package__, template, server=server, title=f"{server.title} {kind}"),
        "Run it in PowerShell as administrator, then connect in Settings, Network & internet, VPN.",
    )


def apple_ikev2(server: Server) -> Profile:
    """A configuration profile for macOS, iOS and iPadOS (Apple's schema of com.apple.vpn.managed)."""
    sides = {"EncryptionAlgorithm": "AES-256-GCM", "IntegrityAlgorithm": "SHA2-256", "DiffieHellmanGroup": 19}
    settings: dict[str, Any] = {
        "RemoteAddress": server.identity,
        "RemoteIdentifier": server.identity,
        "LocalIdentifier": server.username or "user",
        "AuthenticationMethod": "None",
        "ExtendedAuthEnabled": 1,
        "ServerCertificateIssuerCommonName": server.authority_name,
        "DeadPeerDetectionRate": "Medium",
        "EnablePFS": 0,
        "IKESecurityAssociationParameters": sides,
        "ChildSecurityAssociationParameters": sides,
    }
    if server.username is not None:
        settings["AuthName"] = server.username
    authority = {
        **_payload(server, "com.apple.security.root", "ca", server.authority_name),
        "PayloadContent": server.authority_der,
    }
    tunnel = {**_vpn(server, "IKEv2"), "IKEv2": settings}
    return _mobileconfig(server, "IKEv2", [authority, tunnel])


def apple_l2tp(server: Server) -> Profile:
    """The same with L2TP."""
    ppp: dict[str, Any] = {"CommRemoteAddress": server.address}
    if server.username is not None:
        ppp["AuthName"] = server.username
    tunnel = {
        **_vpn(server, "L2TP"),
        "PPP": ppp,
        "IPSec": {"AuthenticationMethod": "SharedSecret", "SharedSecret": server.psk.encode()},
        # only what is for the guests goes through the VPN
        "IPv4": {"OverridePrimary": 0},
    }
    return _mobileconfig(server, "L2TP", [tunnel])


def _payload(server: Server, kind: str, part: str, name: str) -> dict[str, Any]:
    return {
        "PayloadType": kind,
        "PayloadVersion": 1,
        "PayloadIdentifier": f"{_PREFIX}.{server.id}.{part}",
        "PayloadUUID": server.uuid(part),
        "PayloadDisplayName": name,
    }


def _vpn(server: Server, kind: str) -> dict[str, Any]:
    name = f"{server.title} {kind}"
    payload = _payload(server, "com.apple.vpn.managed", kind.lower(), name)
    return {**payload, "VPNType": kind, "UserDefinedName": name}


def _mobileconfig(server: Server, kind: str, payloads: list[dict[str, Any]]) -> Profile:
    whole = _payload(server, "Configuration", f"{kind.lower()}.profile", f"{server.title} {kind}")
    return Profile(
        f"{server.slug}.mobileconfig",
        "application/x-apple-aspen-config",
        plistlib.dumps({**whole, "PayloadContent": payloads}).decode(),
        "Open it on the device and install it in Settings, General, VPN & Device Management.",
    )


def networkmanager_ikev2(server: Server) -> Profile:
    """A keyfile for NetworkManager-strongswan (its charon-nm reads the keys of [vpn])."""
    return Profile(
        f"{server.slug}.nmconnection",
        "text/plain",
        fill(__package__, "networkmanager-ikev2.nmconnection.j2", server=server, authorities=AUTHORITIES),
        f"As root: the CA certificate to {AUTHORITIES}/{server.authority_file}, this file with mode 600 to "
        "/etc/NetworkManager/system-connections, then nmcli connection reload.",
    )


def networkmanager_l2tp(server: Server) -> Profile:
    """A keyfile for NetworkManager-l2tp 1.20 or later."""
    return Profile(
        f"{server.slug}.nmconnection",
        "text/plain",
        fill(__package__, "networkmanager-l2tp.nmconnection.j2", server=server),
        "As root: this file with mode 600 to /etc/NetworkManager/system-connections, then nmcli connection reload.",
    )


def strongswan_ikev2(server: Server) -> Profile:
    """A file for swanctl (swanctl.conf(5))."""
    return Profile(
        f"{server.slug}.conf",
        "text/plain",
        fill(__package__, "swanctl.conf.j2", server=server),
        f"The CA certificate to /etc/swanctl/x509ca/{server.authority_file}, this file to /etc/swanctl/conf.d, the "
        "password to a file of its own as the comment says, then swanctl --load-all and "
        f"swanctl --initiate --child {server.slug}.",
    )


def android_ikev2(server: Server) -> Profile:
    """A profile for the strongSwan app on Android (its page on profiles)."""
    content: dict[str, Any] = {
        "uuid": server.uuid("android"),
        "name": server.title,
        "type": "ikev2-eap",
        "remote": {
            "addr": server.identity,
            "id": server.identity,
            "cert": base64.b64encode(server.authority_der).decode(),
        },
        "split-tunneling": {"subnets": list(server.networks)},
    }
    if server.username is not None:
        content["local"] = {"eap_id": server.username}
    return Profile(
        f"{server.slug}.sswan",
        "application/vnd.strongswan.profile",
        json.dumps(content, indent=2) + "\n",
        "Import it in the strongSwan app.",
    )


#: client and protocol -> what makes its profile
PROFILES: Mapping[tuple[str, str], Callable[[Server], Profile]] = {
    ("windows", "ikev2"): windows_ikev2,
    ("windows", "l2tp"): windows_l2tp,
    ("apple", "ikev2"): apple_ikev2,
    ("apple", "l2tp"): apple_l2tp,
    ("networkmanager", "ikev2"): networkmanager_ikev2,
    ("networkmanager", "l2tp"): networkmanager_l2tp,
    ("strongswan", "ikev2"): strongswan_ikev2,
    ("android", "ikev2"): android_ikev2,
}
