"""Who may log in to appliances that are virtual machines: public keys as sshd(8) has them in authorized_keys."""

from __future__ import annotations

from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_ssh_public_key

from controlplane.hypervisors.base import HypervisorError


def read_keys(path: Path) -> bytes:
    """The file's keys, one a line. Raises HypervisorError naming the line that is none.

    Options before a key are refused: the appliance's sshd allows and forbids the same to everybody.
    """
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise HypervisorError(f"--ssh-keys: {path} cannot be read: {error.strerror}") from error
    keys = []
    for number, line in enumerate(lines, 1):
        key = line.strip()
        if not key or key.startswith(b"#"):
            continue
        try:
            load_ssh_public_key(key)
        except (ValueError, UnsupportedAlgorithm):
            raise HypervisorError(
                f"--ssh-keys: line {number} of {path} is no public key; give lines of .pub files, such as: "
                "ssh-ed25519 AAAAC3... name"
            ) from None
        keys.append(key + b"\n")
    if not keys:
        raise HypervisorError(f"--ssh-keys: there is no key in {path}; put the line of a .pub file there")
    return b"".join(keys)
