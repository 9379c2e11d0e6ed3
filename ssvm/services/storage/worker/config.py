"""The worker's configuration, as render.py writes it, and what is made of it once."""

from __future__ import annotations

import hashlib
import json
import os
import ssl
from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path

from appliance.schema.web import Certificate
from appliance.webfront import server_context
from ssvm.fetch.addresses import Reach, resolver
from ssvm.fetch.connection import Way
from ssvm.services.storage.model.section import Peer, Storage

#: other SSVMs are named by the control plane, wherever they are
_ANYWHERE = Reach(internal_sites=(IPv4Network("0.0.0.0/0"),))


class ConfigError(Exception):
    """The configuration cannot be used."""


@dataclass(frozen=True)
class Config:
    """``digest``: SHA-256 of the file, by which the agent knows what is in force."""

    digest: str
    listen: tuple[str, ...]
    peer_listen: tuple[str, ...]
    socket: Path
    state: Path
    #: holds the mounted exports, by the store's id
    nfs: Path
    sandbox: str
    storage: Storage
    way: Way
    #: for clients; None: not served
    context: ssl.SSLContext | None
    #: for other SSVMs, as server and as client
    peer_context: ssl.SSLContext | None
    peer_client: ssl.SSLContext | None

    def peer_way(self, peer: str) -> Way:
        """How the SSVM with appliance id ``peer`` is reached."""
        assert self.peer_client is not None
        return Way(_ANYWHERE, resolver(()), self.peer_client, self.storage.stall, server_name=f"{peer}.peer")


def load(path: Path) -> Config:
    """Read everything. Raises ConfigError."""
    try:
        text = path.read_bytes()
        raw = json.loads(text)
        storage = Storage.model_validate(raw["storage"])
        closed, private = (tuple(map(IPv4Network, raw[name])) for name in ("closed", "private"))
        reach = Reach(storage.internal_sites, closed, private)
        return Config(
            digest=hashlib.sha256(text).hexdigest(),
            listen=tuple(raw["listen"]),
            peer_listen=tuple(raw["peer_listen"]),
            socket=Path(raw["socket"]),
            state=Path(raw["state"]),
            nfs=Path(raw["nfs"]),
            sandbox=raw["sandbox"],
            storage=storage,
            way=Way(reach, resolver(storage.resolvers), _trusting(storage.ca), storage.stall, storage.proxy),
            context=_serving(storage.certificate) if storage.certificate is not None else None,
            peer_context=_peer(storage.peer, server_context()) if storage.peer is not None else None,
            peer_client=_peer(storage.peer, ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)) if storage.peer else None,
        )
    except (OSError, ValueError, KeyError, ssl.SSLError) as error:
        raise ConfigError(f"{path.name} cannot be used: {error}") from error


def _trusting(ca: str | None) -> ssl.SSLContext:
    """A client's context: the machine's CAs and the zone's."""
    context = ssl.create_default_context()
    if ca is not None:
        context.load_verify_locations(cadata=ca)
    return context


def _serving(own: Certificate) -> ssl.SSLContext:
    context = server_context()
    _load(context, own.key.get_secret_value(), own.certificate, own.chain)
    return context


def _peer(own: Peer, context: ssl.SSLContext) -> ssl.SSLContext:
    """Both sides show a certificate that the installation's CA signed."""
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    _load(context, own.key.get_secret_value(), own.certificate)
    context.load_verify_locations(cadata=own.ca)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def _load(context: ssl.SSLContext, *pems: str) -> None:
    """Give a context key and certificates. OpenSSL reads files only; this one is in memory, and nobody else's."""
    descriptor = os.memfd_create("certificate", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, "\n".join(pem.strip() for pem in pems if pem).encode() + b"\n")
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)
