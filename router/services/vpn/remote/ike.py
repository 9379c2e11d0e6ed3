"""Connections, pools and secrets of remote access as charon loads them over vici (swanctl.conf(5)). Pure.

Names of all of these begin with ``remote/``, which no id of a site-to-site connection can.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network, collapse_addresses

from router.services.vpn.connections import Message
from router.services.vpn.plane import IF_ID, Plane
from router.services.vpn.remote.model import CERTIFICATE, ClientRange, RemoteAccess

PREFIX = "remote/"

#: of IKEv2, the best first. Windows and Apple's systems without a profile have nothing above modp1024 and modp2048.
IKE_PROPOSALS = (
    "aes256gcm16-aes128gcm16-prfsha384-prfsha256-ecp384-ecp256-curve25519-modp4096-modp3072-modp2048",
    "aes256-aes128-sha384-sha256-ecp384-ecp256-curve25519-modp4096-modp3072-modp2048",
    "aes256-aes128-sha256-sha1-modp2048-modp1024",
)
ESP_PROPOSALS = ("aes256gcm16-aes128gcm16", "aes256-aes128-sha384-sha256", "aes256-aes128-sha1")

#: of IKEv1: Windows 10 and 11, macOS, iOS, Android before 12, NetworkManager-l2tp; 3DES last
L2TP_IKE_PROPOSALS = tuple(
    f"{cipher}-{group}"
    for cipher in ("aes256-sha256", "aes256-sha1", "aes128-sha1", "3des-sha1")
    for group in ("ecp384", "ecp256", "modp2048", "modp1536", "modp1024")
)
L2TP_ESP_PROPOSALS = ("aes256-sha1", "aes128-sha1", "3des-sha1")


def is_ours(name: str) -> bool:
    """Whether a connection or secret of charon belongs to remote access."""
    return name.startswith(PREFIX)


def ikev2_pool(access: RemoteAccess) -> tuple[IPv4Address, IPv4Address]:
    """First and last address of IKEv2's clients: with L2TP beside it the upper half, without all but the server's."""
    clients = access.clients
    if not access.l2tp:
        return clients.first + 1, clients.last
    return _middle(clients) + 1, clients.last


def l2tp_pool(access: RemoteAccess) -> tuple[IPv4Address, IPv4Address]:
    """First and last address of L2TP's clients."""
    return access.clients.first + 1, access.clients.last if access.ikev2 is None else _middle(access.clients)


def _middle(clients: ClientRange) -> IPv4Address:
    return clients.first + (int(clients.last) - int(clients.first) + 1) // 2


def name(access: RemoteAccess, protocol: str) -> str:
    """What charon calls it: with a digest of what a client has from it, so that another one ends its sessions.

    Not of secrets and users, whose changes concern some clients only, nor of the certificate, which nobody who is
    connected asks for again.
    """
    text = access.model_dump_json(
        exclude={"psk": True, "users": True, "open": True, "ikev2": {"key", "certificate", "ca"}}
    )
    return f"{PREFIX}{access.address}/{protocol}/{hashlib.sha256(text.encode()).hexdigest()[:10]}"


def place(name: str) -> tuple[str, str]:
    """Public address and protocol of a connection's ``name``."""
    _, address, protocol, _ = name.split("/")
    return address, protocol


def connections(access: RemoteAccess, plane: Plane) -> Iterator[tuple[str, Message]]:
    """Names and contents of the connections; L2TP's only where ``plane`` has transport mode."""
    if access.ikev2 is not None:
        yield name(access, "ikev2"), _ikev2(access, plane)
    if access.l2tp and plane.kernel:
        yield name(access, "l2tp"), _l2tp(access)


def _ikev2(access: RemoteAccess, plane: Plane) -> Message:
    assert access.ikev2 is not None
    dns = IPv4Network(access.dns)
    message: Message = {
        "version": "2",
        "local_addrs": [str(access.address)],
        "remote_addrs": ["%any"],
        "proposals": list(IKE_PROPOSALS),
        # a person may have several devices
        "unique": "never",
        "send_certreq": "no",
        "send_cert": "always",
        "dpd_delay": "30s",
        "rekey_time": "4h",
        "pools": [name(access, "ikev2")],
        "local": {"auth": "pubkey", "id": access.ikev2.identity, "certs": [access.ikev2.certificate]},
        "remote": {"auth": "eap-mschapv2", "eap_id": "%any"},
        "children": {
            "guests": {
                "mode": "tunnel",
                "local_ts": [str(network) for network in collapse_addresses([*access.networks, dns])],
                "esp_proposals": list(ESP_PROPOSALS),
                "rekey_time": "1h",
                "start_action": "none",
                "close_action": "none",
                "dpd_action": "clear",
            }
        },
    }
    if plane.kernel:
        message |= {"if_id_in": str(IF_ID), "if_id_out": str(IF_ID)}
    return message


def _l2tp(access: RemoteAccess) -> Message:
    return {
        "version": "1",
        "local_addrs": [str(access.address)],
        "remote_addrs": ["%any"],
        "proposals": list(L2TP_IKE_PROPOSALS),
        "unique": "never",
        "dpd_delay": "30s",
        "dpd_timeout": "120s",
        # the client does it, or cannot
        "rekey_time": "0s",
        "reauth_time": "0s",
        "local": {"auth": "psk", "id": str(access.address)},
        "remote": {"auth": "psk", "id": "%any"},
        "children": {
            "l2tp": {
                "mode": "transport",
                "local_ts": ["dynamic[udp/1701]"],
                # clients behind a NAT, and Apple's, have other ports than 1701
                "remote_ts": ["dynamic[udp]"],
                "esp_proposals": list(L2TP_ESP_PROPOSALS),
                "rekey_time": "0s",
                # each client has a mark of its own: it tells those behind one NAT apart, see firewall.py
                "mark_in": "%unique",
                "mark_out": "%unique",
                "set_mark_in": "%same",
                "start_action": "none",
                "close_action": "none",
                "dpd_action": "clear",
            }
        },
    }


def pool(access: RemoteAccess) -> Message:
    """Addresses of IKEv2's clients, and what they are told beside their own."""
    first, last = ikev2_pool(access)
    return {
        name(access, "ikev2"): {
            "addrs": f"{first}-{last}",
            "dns": [str(access.dns)],
            "subnet": [str(network) for network in access.networks],
        }
    }


def authorities(access: RemoteAccess) -> tuple[str, ...]:
    """Each certificate of the chain, PEM."""
    return tuple(re.findall(CERTIFICATE.replace("+", "+?"), access.ikev2.ca)) if access.ikev2 is not None else ()


def secrets(access: RemoteAccess) -> dict[str, Message]:
    """Preshared key and passwords, by their ids."""
    found: dict[str, Message] = {}
    if access.l2tp:
        id = f"{PREFIX}{access.address}/psk"
        owners = [str(access.address), "%any"]
        found[id] = {"id": id, "type": "IKE", "data": access.psk.get_secret_value(), "owners": owners}
    for user in access.users if access.ikev2 is not None else ():
        id = f"{PREFIX}{access.address}/user/{user.name}"
        found[id] = {"id": id, "type": "EAP", "data": user.password.get_secret_value(), "owners": [user.name]}
    return found
