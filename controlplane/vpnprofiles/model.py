"""What a profile is made of, and what it is."""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding


@dataclass(frozen=True)
class Server:
    """A remote access VPN as one of its users sees it."""

    id: str
    network_name: str
    address: str
    #: what IKEv2 clients know it by: a DNS name or the address
    identity: str
    psk: str = field(repr=False)
    #: networks that clients reach, CIDRs
    networks: tuple[str, ...]
    #: certificate (PEM) that the server's is signed by
    authority: str
    #: who will use the profile, where that is known
    username: str | None = None

    @property
    def title(self) -> str:
        """A name for people: letters, digits and what no format quotes."""
        plain = "".join(letter if letter.isalnum() or letter in "-_." else " " for letter in self.network_name)
        return f"{' '.join(plain.split()) or 'VPN'} {self.address}"

    @property
    def slug(self) -> str:
        """A name for files and sections: letters of ASCII, digits and dashes."""
        plain = re.sub(r"[^a-z0-9]+", "-", self.network_name.lower()).strip("-")
        return f"{plain or 'vpn'}-{self.address.replace('.', '-')}"

    def uuid(self, part: str) -> str:
        """The same for the same server and part each time, so that a newer profile takes the place of an older one."""
        return str(uuid.uuid5(uuid.UUID(self.id), part))

    @property
    def authority_name(self) -> str:
        """The common name of ``authority``."""
        [name] = self._certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
        return str(name.value)

    @property
    def authority_der(self) -> bytes:
        return self._certificate.public_bytes(Encoding.DER)

    @property
    def authority_file(self) -> str:
        """Name of the file with the authority's certificate beside a profile that cannot hold it."""
        return f"{self.slug}-ca.pem"

    @property
    def _certificate(self) -> x509.Certificate:
        return x509.load_pem_x509_certificate(self.authority.encode())


@dataclass(frozen=True)
class Profile:
    """A file for a client, and what to do with it."""

    filename: str
    content_type: str
    content: str
    howto: str
