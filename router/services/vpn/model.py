"""VPN: site-to-site IPsec tunnels and remote access (guide: chapter 15.17)."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import summarize_address_range
from typing import Annotated, Literal

from pydantic import Field, model_validator

from appliance.schema.problems import Problem, refuse, repeated
from appliance.schema.types import Address, Flag, Frozen, Integer, Network, RuleId, Secret
from router.services.vpn.remote.model import RemoteAccess

Cipher = Literal["3des", "aes128", "aes192", "aes256", "aes128gcm16", "aes256gcm16", "chacha20poly1305"]
Hash = Literal["md5", "sha1", "sha256", "sha384", "sha512"]
Group = Literal[
    "modp1024",
    "modp1536",
    "modp2048",
    "modp3072",
    "modp4096",
    "modp6144",
    "modp8192",
    "ecp256",
    "ecp384",
    "ecp521",
    "curve25519",
]
#: ciphers of ESP that IKEv1 has no number for (IANA's registry of IPsec ESP transform identifiers)
NOT_IKEV1: frozenset[Cipher] = frozenset({"chacha20poly1305"})
#: ciphers that authenticate by themselves (RFC 5116); RFC 5282 brings them to IKEv2 only
AEAD: frozenset[Cipher] = frozenset({"aes128gcm16", "aes256gcm16", "chacha20poly1305"})

#: an address, a domain name or one with a user before it (RFC 7296, section 3.5; %any would fit every peer's key)
PEER_ID = r"^([A-Za-z0-9._+-]{1,64}@)?[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?$"

Lifetime = Annotated[Integer, Field(ge=60, le=86_400)]
Seconds = Annotated[Integer, Field(ge=1, le=3600)]


class PresharedKey(Frozen):
    """A secret that both ends know."""

    psk: Annotated[Secret, Field(min_length=1, max_length=256)]


class IkePolicy(Frozen):
    """Phase 1. ``hash`` is the integrity algorithm and the pseudo-random function, with an AEAD cipher only the latter.

    Without ``group`` any of the strong ones will do.
    """

    encryption: Cipher = "aes256"
    hash: Hash = "sha256"
    group: Group | None = None


class EspPolicy(Frozen):
    """Phase 2. ``hash`` is absent with an AEAD cipher. ``group``: perfect forward secrecy, None for none."""

    encryption: Cipher
    hash: Hash | None = None
    group: Group | None = None

    @model_validator(mode="after")
    def _check(self) -> EspPolicy:
        if (self.hash is None) != (self.encryption in AEAD):
            text = f"goes without {self.encryption}, which authenticates by itself"
            refuse([(("hash",), text if self.hash else f"{self.encryption} needs one")])
        return self


class SiteConnection(PresharedKey):
    """A tunnel from ``local``, a public address of this router, to the gateway ``peer``.

    ``local_networks`` behind this router and ``remote_networks`` behind the peer reach each other. ``peer_id`` is what
    the peer calls itself, where that is not its address (a gateway behind a NAT). ``serial``: another
    number takes the tunnel down and brings it up again. ``dpd``: seconds without traffic after which the peer
    is asked whether it lives; None never asks.
    """

    id: RuleId
    local: Address
    peer: Address
    peer_id: Annotated[str, Field(pattern=PEER_ID)] | None = None
    local_networks: Annotated[tuple[Network, ...], Field(min_length=1)]
    remote_networks: Annotated[tuple[Network, ...], Field(min_length=1)]
    version: Literal["ike", "ikev1", "ikev2"] = "ike"
    ike: IkePolicy = IkePolicy()
    esp: EspPolicy = EspPolicy(encryption="aes256", hash="sha256")
    #: seconds
    ike_lifetime: Lifetime = 86_400
    esp_lifetime: Lifetime = 3600
    dpd: Seconds | None = None
    #: wait for the peer instead of calling it
    passive: Flag = False
    #: ESP in UDP also where no NAT is on the way
    force_encap: Flag = False
    #: a security association for each pair of networks instead of one for all; IKEv1 knows nothing else
    split: Flag = False
    serial: Integer = 0

    @property
    def pairs(self) -> tuple[tuple[tuple[Network, ...], tuple[Network, ...]], ...]:
        """Local and remote networks of each security association."""
        if self.version == "ikev2" and not self.split:
            return ((self.local_networks, self.remote_networks),)
        return tuple(((local,), (remote,)) for local in self.local_networks for remote in self.remote_networks)

    @model_validator(mode="after")
    def _check(self) -> SiteConnection:
        refuse(self._problems())
        return self

    def _problems(self) -> Iterator[Problem]:
        if self.ike.encryption in AEAD and self.version != "ikev2":
            yield ("ike", "encryption"), f"{self.ike.encryption} protects IKE in version ikev2 only"
        if self.esp.encryption in NOT_IKEV1 and self.version == "ikev1":
            yield ("esp", "encryption"), f"{self.esp.encryption} cannot be agreed on in version ikev1"
        for index, remote in enumerate(self.remote_networks):
            if self.peer in remote:
                yield (
                    ("remote_networks", index),
                    f"the peer {self.peer} is in {remote}, and would be reached through itself",
                )
            for local in self.local_networks:
                if remote.overlaps(local):
                    yield ("remote_networks", index), f"{remote} overlaps the local network {local}"
            if any(remote.overlaps(other) for other in self.remote_networks[:index]):
                yield ("remote_networks", index), f"{remote} overlaps another one"


class Vpn(Frozen):
    """All of a router's VPN."""

    connections: tuple[SiteConnection, ...] = ()
    remote: tuple[RemoteAccess, ...] = ()

    @property
    def ends(self) -> tuple[Address, ...]:
        """This router's addresses that speak IKE."""
        return (*(one.local for one in self.connections), *(one.address for one in self.remote))

    @property
    def open_ends(self) -> tuple[Address, ...]:
        """Those of ``ends`` that everybody may call."""
        return (*(one.local for one in self.connections), *(one.address for one in self.remote if one.open))

    @property
    def resolvers(self) -> frozenset[Address]:
        """This router's own addresses that clients ask for names."""
        return frozenset(one.dns for one in self.remote)

    @property
    def routed(self) -> frozenset[Network]:
        """Everything that is reached through tunnels: what is behind peers, and clients."""
        clients = (summarize_address_range(one.clients.first, one.clients.last) for one in self.remote)
        return self.remote_networks.union(*clients)

    @property
    def remote_networks(self) -> frozenset[Network]:
        """Everything that is behind the connections' peers."""
        return frozenset(network for one in self.connections for network in one.remote_networks)

    @model_validator(mode="after")
    def _check(self) -> Vpn:
        refuse(self._problems())
        return self

    def _problems(self) -> Iterator[Problem]:
        for index, identity in repeated([one.id for one in self.connections]):
            yield ("connections", index, "id"), f"{identity} is given twice"
        for index, ends in repeated([(one.local, one.peer) for one in self.connections]):
            yield ("connections", index, "peer"), f"{ends[0]} has a connection to {ends[1]} already"
        seen: list[tuple[Network, str]] = []
        for index, one in enumerate(self.connections):
            for place, network in enumerate(one.remote_networks):
                for other, owner in seen:
                    if network.overlaps(other):
                        text = f"{network} overlaps {other}, which is behind connection {owner}"
                        yield ("connections", index, "remote_networks", place), text
            seen += [(network, one.id) for network in one.remote_networks]
        for index, address in repeated([one.address for one in self.remote]):
            yield ("remote", index, "address"), f"{address} is given twice"
        for index, access in enumerate(self.remote):
            for network, owner in seen:
                if access.clients.overlaps(network):
                    text = f"{access.clients} overlaps {network}, which is behind connection {owner}"
                    yield ("remote", index, "clients"), text
            for earlier in self.remote[:index]:
                if access.clients.first <= earlier.clients.last and earlier.clients.first <= access.clients.last:
                    text = f"{access.clients} overlaps the clients of {earlier.address}"
                    yield ("remote", index, "clients"), text
