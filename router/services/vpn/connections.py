"""Connections as charon loads them over vici (README.md of strongSwan's vici plugin; swanctl.conf(5)). Pure."""

from __future__ import annotations

import hashlib
from typing import Any

from router.services.vpn.model import AEAD, EspPolicy, IkePolicy, SiteConnection
from router.services.vpn.plane import IF_ID, Plane

#: a message of vici: strings, lists of strings, and sections of these
Message = dict[str, Any]

#: what "any group" offers, the best first
GROUPS = ("ecp384", "ecp256", "modp4096", "modp3072", "modp2048")
#: a security association is renewed when this part of its life is over, less a random part
RENEW, JITTER = 0.9, 0.05


def name(connection: SiteConnection) -> str:
    """What charon calls it: the id, and a digest of all but the secret, so that a changed one is another one."""
    text = connection.model_dump_json(exclude={"psk"})
    return f"{connection.id}.{hashlib.sha256(text.encode()).hexdigest()[:10]}"


def identity(name: str) -> str:
    """The connection's id of ``name``."""
    return name.rpartition(".")[0]


def children(connection: SiteConnection) -> tuple[str, ...]:
    """Names of its security associations."""
    return tuple(f"{name(connection)}-{number}" for number in range(len(connection.pairs)))


def load_conn(connection: SiteConnection, plane: Plane) -> Message:
    """The message that loads it."""
    life = connection.ike_lifetime
    message: Message = {
        "version": {"ike": "0", "ikev1": "1", "ikev2": "2"}[connection.version],
        "local_addrs": [str(connection.local)],
        "remote_addrs": [str(connection.peer)],
        "proposals": ike_proposals(connection.ike),
        "rekey_time": f"{int(life * RENEW)}s",
        "over_time": f"{life - int(life * RENEW)}s",
        "rand_time": f"{int(life * JITTER)}s",
        "encap": _flag(connection.force_encap),
        # without an end: the caller is this router's own watch
        "keyingtries": "0",
        # a router has many addresses, and its peer knows one of them
        "mobike": "no",
        "local": {"auth": "psk", "id": str(connection.local)},
        "remote": {"auth": "psk", "id": connection.peer_id or str(connection.peer)},
        "children": {
            child: _child(connection, [str(one) for one in local], [str(one) for one in remote])
            for child, (local, remote) in zip(children(connection), connection.pairs, strict=True)
        },
    }
    if plane.kernel:
        message |= {"if_id_in": str(IF_ID), "if_id_out": str(IF_ID)}
    if connection.dpd is not None:
        # IKEv1 has a time limit of its own, IKEv2 that of every message
        message |= {"dpd_delay": f"{connection.dpd}s", "dpd_timeout": f"{4 * connection.dpd}s"}
    return {name(connection): message}


def load_shared(connection: SiteConnection) -> Message:
    """The message that loads its secret. It is the peer's alone: any peer is let in by any key of the router's own."""
    return {
        "id": connection.id,
        "type": "IKE",
        "data": connection.psk.get_secret_value(),
        "owners": list(filter(None, (str(connection.peer), connection.peer_id))),
    }


def _child(connection: SiteConnection, local: list[str], remote: list[str]) -> Message:
    life = connection.esp_lifetime
    return {
        "mode": "tunnel",
        "local_ts": local,
        "remote_ts": remote,
        "esp_proposals": esp_proposals(connection.esp),
        "life_time": f"{life}s",
        "rekey_time": f"{int(life * RENEW)}s",
        "rand_time": f"{int(life * JITTER)}s",
        "start_action": "none",
        "close_action": "none",
        "dpd_action": "clear",
    }


def ike_proposals(policy: IkePolicy) -> list[str]:
    """Proposals of phase 1, the most wanted first."""
    hash = f"prf{policy.hash}" if policy.encryption in AEAD else policy.hash
    return [f"{policy.encryption}-{hash}-{group}" for group in ((policy.group,) if policy.group else GROUPS)]


def esp_proposals(policy: EspPolicy) -> list[str]:
    """Proposals of phase 2."""
    return ["-".join(filter(None, (policy.encryption, policy.hash, policy.group)))]


def _flag(value: bool) -> str:
    return "yes" if value else "no"
