"""VPN: remote access for people's own devices, by L2TP over IPsec and by IKEv2 (guide: chapter 15.17.1 to 15.17.3)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from pydantic import Field, model_validator

from appliance.schema.problems import Problem, refuse, repeated
from appliance.schema.types import Address, Domain, Flag, Frozen, IPv4Network, Network, Secret

#: what a pool may hold, the server's own address with it
LARGEST_POOL = 4096

CERTIFICATE = r"-----BEGIN CERTIFICATE-----\s[\s\S]+-----END CERTIFICATE-----"


class VpnUser(Frozen):
    """A person who may connect, with any number of devices.

    strongSwan compares names without regard to case, and pppd's chap-secrets(5) takes a secret that begins with "@"
    for the name of a file.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9@._+-]{1,64}$")]
    password: Annotated[Secret, Field(min_length=1, max_length=128)]

    @model_validator(mode="after")
    def _check(self) -> VpnUser:
        text = self.password.get_secret_value()
        if not text.isascii() or not text.isprintable() or text[0] == "@" or set(text) & set('"\\'):
            told = "must be printable ASCII without quotation marks and backslashes, and not begin with @"
            refuse([(("password",), told)])
        return self


class ClientRange(Frozen):
    """Addresses of the clients, both ends included; the first one is the server's own."""

    first: Address
    last: Address

    @model_validator(mode="after")
    def _check(self) -> ClientRange:
        if not 1 <= int(self.last) - int(self.first) < LARGEST_POOL:
            refuse([(("last",), f"must be 1 to {LARGEST_POOL - 1} above first ({self.first})")])
        return self

    def overlaps(self, network: IPv4Network) -> bool:
        """Whether they share an address."""
        return self.first <= network.broadcast_address and network.network_address <= self.last

    @property
    def network(self) -> IPv4Network:
        """The smallest network that they are all in."""
        prefix = 32 - (int(self.first) ^ int(self.last)).bit_length()
        return IPv4Network((int(self.first), prefix), strict=False)

    def __str__(self) -> str:
        return f"{self.first}-{self.last}"


class Ikev2(Frozen):
    """IKEv2 with EAP-MSCHAPv2: the router shows a certificate, the user gives a password.

    ``identity`` is what clients call the server by and a subject alternative name of ``certificate``. All are PEM;
    ``ca`` holds the certificates between ``certificate`` and what clients trust.
    """

    identity: Domain
    certificate: Annotated[str, Field(pattern=rf"^\s*{CERTIFICATE}\s*$")]
    key: Annotated[Secret, Field(min_length=1)]
    ca: Annotated[str, Field(pattern=rf"^\s*{CERTIFICATE}\s*$")]

    @model_validator(mode="after")
    def _check(self) -> Ikev2:
        text = self.key.get_secret_value().strip()
        if not (text.startswith("-----BEGIN ") and "PRIVATE KEY-----" in text and "ENCRYPTED" not in text):
            refuse([(("key",), "must be a PEM private key without a passphrase")])
        return self


class RemoteAccess(Frozen):
    """Remote access on one public address.

    Clients get an address of ``clients`` and reach ``networks``, networks of this router's guests, by routes they are
    given, and ``dns``, this router's resolver on one of its guest interfaces; nothing else. With both protocols
    L2TP has the lower half of the range and IKEv2 the upper one.
    """

    address: Address
    #: of L2TP's IPsec, the same for all clients
    psk: Annotated[Secret, Field(min_length=1, max_length=256)]
    clients: ClientRange
    networks: Annotated[tuple[Network, ...], Field(min_length=1)]
    dns: Address
    users: tuple[VpnUser, ...] = ()
    #: IKE is open to everybody; where not, to whom the firewall's ingress rules let in
    open: Flag = True
    l2tp: Flag = True
    ikev2: Ikev2 | None = None

    @model_validator(mode="after")
    def _check(self) -> RemoteAccess:
        refuse(self._problems())
        return self

    def _problems(self) -> Iterator[Problem]:
        if not self.l2tp and self.ikev2 is None:
            yield ("l2tp",), "must be on where ikev2 is absent, for clients have no way in"
        if self.l2tp and self.ikev2 is not None and int(self.clients.last) - int(self.clients.first) < 2:
            yield ("clients", "last"), "must leave an address for each of l2tp and ikev2, which share the range"
        for index, name in repeated([user.name.lower() for user in self.users]):
            yield ("users", index, "name"), f"{name} is given twice (case is not looked at)"
        for index, network in enumerate(self.networks):
            if self.clients.overlaps(network):
                yield ("clients",), f"{self.clients} overlaps {network}, which clients reach"
            if any(network.overlaps(other) for other in self.networks[:index]):
                yield ("networks", index), f"{network} overlaps another one"
