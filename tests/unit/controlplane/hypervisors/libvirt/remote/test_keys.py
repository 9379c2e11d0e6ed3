"""The control plane's SSH key, and advice about what ssh complains of."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import load_ssh_private_key, load_ssh_public_key

from controlplane.hypervisors.libvirt.remote.keys import Keys
from controlplane.hypervisors.libvirt.remote.target import Target


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    made = Keys(tmp_path / "ssh")
    made.ensure()
    return made


def test_the_key_is_made_once_and_for_its_owner_alone(keys: Keys) -> None:
    before = keys.private.read_bytes()
    private = load_ssh_private_key(before, None)
    public = load_ssh_public_key(keys.public.read_bytes())
    assert private.public_key() == public
    assert keys.private.stat().st_mode & 0o777 == 0o600 and keys.private.parent.stat().st_mode & 0o777 == 0o700
    keys.ensure()
    assert keys.private.read_bytes() == before


@pytest.mark.parametrize(
    ("complaint", "advice"),
    [
        ("No ED25519 host key is known for kvm2\nHost key verification failed.", "ssh-keyscan -p 2222 kvm2"),
        ("root@kvm2: Permission denied (publickey).", "authorized_keys of root there: ssh-ed25519 "),
        ("ssh: connect to host kvm2 port 2222: Connection refused", "see that its SSH server runs"),
    ],
)
def test_each_complaint_has_its_advice(keys: Keys, complaint: str, advice: str) -> None:
    assert advice in keys.advice(Target("kvm2", 2222), complaint)
    assert "PRIVATE" not in keys.advice(Target("kvm2", 2222), complaint)
