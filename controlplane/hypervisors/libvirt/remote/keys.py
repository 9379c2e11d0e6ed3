"""The control plane's SSH key for its hosts, and the hosts' keys that it knows."""

from __future__ import annotations

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from controlplane.hypervisors.libvirt.remote.target import Target
from controlplane.hypervisors.records import write_atomically


class Keys:
    """In ``directory`` (mode 0700): ``id_ed25519``, made when it is first asked for, and ``known_hosts``."""

    def __init__(self, directory: Path) -> None:
        self.private, self.public = directory / "id_ed25519", directory / "id_ed25519.pub"
        self.known_hosts = directory / "known_hosts"

    def ensure(self) -> None:
        self.private.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not self.private.exists():
            key = Ed25519PrivateKey.generate()
            public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
            write_atomically(self.public, f"{public} gatehouse\n")
            private = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode()
            write_atomically(self.private, private)

    def advice(self, target: Target, complaint: str) -> str:
        """What to do about what ssh complains of."""
        if "Host key verification failed" in complaint:
            name = f"-p {target.port} {target.host}"
            return (
                f"its host key is not known, or another one; compare what 'ssh-keyscan {name}' prints with the host's "
                f"/etc/ssh/ssh_host_*_key.pub and add it to {self.known_hosts}"
            )
        if "Permission denied" in complaint:
            return f"add this line to the authorized_keys of {target.user} there: {self.public.read_text().strip()}"
        return "see that its SSH server runs and that python3 and libnftables1 are installed there"
