"""VNC authentication (RFC 6143 section 7.2.2): a DES response to a challenge."""

from __future__ import annotations

from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.modes import ECB

#: octets of a challenge and of its response
CHALLENGE = 16


def response(password: str, challenge: bytes) -> bytes:
    """The 16 octets that answer ``challenge``. Only the first eight characters of ``password`` count."""
    secret = password.encode("latin-1", "replace")[:8].ljust(8, b"\0")
    # VNC's DES takes the bits of each octet of the key in the other order
    key = bytes(int(f"{octet:08b}"[::-1], 2) for octet in secret)
    # DES is triple DES with the same key three times
    encryptor = Cipher(TripleDES(key * 3), ECB()).encryptor()  # noqa: S305  the protocol says so
    return encryptor.update(challenge) + encryptor.finalize()
