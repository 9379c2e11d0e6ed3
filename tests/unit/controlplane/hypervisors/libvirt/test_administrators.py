from __future__ import annotations

from pathlib import Path

import pytest

from controlplane.compute.keypairs import generate
from controlplane.hypervisors.base import HypervisorError
from controlplane.hypervisors.libvirt.administrators import read_keys


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "keys"


def test_keys_are_taken_without_what_is_around_them(file: Path) -> None:
    key = generate()[1]
    file.write_text(f"# administrators\n\n  {key} ann\r\n{key}")
    assert read_keys(file).decode() == f"{key} ann\n{key}\n"


@pytest.mark.parametrize(
    "line", ["-----BEGIN OPENSSH PRIVATE KEY-----", 'command="x" ssh-ed25519 AAAA', "ssh-rsa AAAA"]
)
def test_a_line_that_is_no_key_is_named(file: Path, line: str) -> None:
    file.write_text(f"{generate()[1]}\n{line}\n")
    with pytest.raises(HypervisorError, match=r"--ssh-keys: line 2 of .*keys is no public key; give"):
        read_keys(file)


def test_a_file_without_keys_is_refused(file: Path) -> None:
    with pytest.raises(HypervisorError, match=r"--ssh-keys: .* cannot be read: No such file"):
        read_keys(file)
    file.write_text("# nobody\n")
    with pytest.raises(HypervisorError, match="--ssh-keys: there is no key in"):
        read_keys(file)
