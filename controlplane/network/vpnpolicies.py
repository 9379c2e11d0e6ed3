"""What clients write about a far end: identity, and policies as ``aes256-sha256;modp2048`` (guide: 15.17.4.1)."""

from __future__ import annotations

import re
from typing import get_args

from controlplane.errors import ParameterError
from router.services.vpn.model import AEAD, NOT_IKEV1, PEER_ID, Cipher, EspPolicy, Group, Hash, IkePolicy

CIPHERS, HASHES, GROUPS = get_args(Cipher), get_args(Hash), get_args(Group)

#: what a customer gateway has that was given no policy
IKE_DEFAULT, ESP_DEFAULT = "aes256-sha256;modp2048", "aes256-sha256;modp2048"

_POLICY = re.compile(r"(?P<cipher>[a-z0-9]+)(-(?P<hash>[a-z0-9]+))?([;-](?P<group>[a-z0-9]+))?")


def ike(text: str, version: str) -> IkePolicy:
    """Phase 1: cipher, hash and, unless any will do, group. ParameterError otherwise."""
    cipher, hash, group = _parts("ikepolicy", text)
    if hash is None:
        raise ParameterError(f"ikepolicy: {text!r} lacks the hash; one of {', '.join(HASHES)}, as in {IKE_DEFAULT}")
    if cipher in AEAD and version != "ikev2":
        raise ParameterError(f"ikepolicy: {cipher} protects IKE in version 2 only; give ikeversion=ikev2")
    return IkePolicy.model_validate({"encryption": cipher, "hash": hash, "group": group})


def esp(text: str, version: str) -> EspPolicy:
    """Phase 2: cipher, hash unless the cipher needs none, and group for perfect forward secrecy."""
    cipher, hash, group = _parts("esppolicy", text)
    if cipher in AEAD and hash is not None:
        raise ParameterError(f"esppolicy: {cipher} authenticates by itself and goes without {hash}")
    if cipher not in AEAD and hash is None:
        raise ParameterError(f"esppolicy: {text!r} lacks the hash; one of {', '.join(HASHES)}, as in {ESP_DEFAULT}")
    if cipher in NOT_IKEV1 and version == "ikev1":
        raise ParameterError(f"esppolicy: {cipher} cannot be agreed on in IKE version 1; give ikeversion=ikev2")
    return EspPolicy.model_validate({"encryption": cipher, "hash": hash, "group": group})


def peer_id(text: str) -> str:
    """What a far end calls itself. ParameterError otherwise."""
    text = text.strip()
    if re.fullmatch(PEER_ID, text) is None:
        raise ParameterError(
            f"peerid: {text!r} is no address, domain name or user@domain; anything (%any) would let other far ends in"
        )
    return text


def _parts(parameter: str, text: str) -> tuple[str, str | None, str | None]:
    match = _POLICY.fullmatch(text.strip().lower())
    if match is None:
        raise ParameterError(f"{parameter}: write it like {IKE_DEFAULT}, not {text!r}")
    cipher, hash, group = match["cipher"], match["hash"], match["group"]
    for value, known, what in ((cipher, CIPHERS, "cipher"), (hash, HASHES, "hash"), (group, GROUPS, "group")):
        if value is not None and value not in known:
            raise ParameterError(f"{parameter}: there is no {what} {value}; one of {', '.join(known)}")
    return cipher, hash, group
