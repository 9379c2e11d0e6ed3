"""A virtual machine's identity from its credentials, and which certificate it goes on with."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, tzinfo
from pathlib import Path

import pytest
from cryptography import x509

from appliance.agent import boot
from controlplane import pki
from controlplane.pki import Authority

CONTROL = {"name": "eth0", "mac": "0e:00:00:00:00:01", "address": "169.254.0.5/16"}
IDENTITY = {"id": "r-1", "role": "router", "control": CONTROL}


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


class Machine:
    """The directories of one, with the credentials that the hypervisor gave it."""

    def __init__(self, directory: Path, authority: Authority) -> None:
        self.credentials, self.identity, self.state = (directory / name for name in ("given", "identity", "state"))
        for path in (self.credentials, self.state):
            path.mkdir()
        self._authority = authority
        issued = authority.issue("r-1", "router")
        self.given = issued.certificate
        self.give("identity.json", json.dumps(IDENTITY).encode())
        self.give("ca.pem", authority.certificate)
        self.give("cert.pem", issued.certificate)
        self.give("key.pem", issued.key)

    def give(self, name: str, content: bytes) -> None:
        (self.credentials / f"gatehouse.{name}").write_bytes(content)

    def boot(self) -> bytes:
        """The certificate that it serves with."""
        boot.unpack(self.credentials, self.identity, self.state)
        return (self.identity / "cert.pem").read_bytes()

    def renew(self, name: str = "r-1") -> bytes:
        current = x509.load_pem_x509_certificate(self.given)
        return self._authority.renew(name, "router", current, timedelta(days=30))


@pytest.fixture
def machine(tmp_path: Path, authority: Authority) -> Machine:
    """One whose certificate is an hour old."""

    class Earlier(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Earlier:
            return super().now(tz) - timedelta(hours=1)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pki, "datetime", Earlier)
        return Machine(tmp_path, authority)


def test_the_identity_is_for_root_alone(machine: Machine) -> None:
    assert machine.boot() == machine.given
    assert machine.identity.stat().st_mode & 0o777 == 0o700
    names = {path.name for path in machine.identity.iterdir()}
    assert names == {"identity.json", "ca.pem", "cert.pem", "key.pem"}
    assert {path.stat().st_mode & 0o777 for path in machine.identity.iterdir()} == {0o600}


def test_without_an_identity_it_says_what_is_missing(machine: Machine) -> None:
    (machine.credentials / "gatehouse.identity.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"system credential gatehouse\.identity\.json"):
        machine.boot()


def test_what_is_given_no_more_is_taken_away(machine: Machine) -> None:
    machine.give("authorized_keys", b"ssh-ed25519 AAAA admin\n")
    machine.boot()
    assert boot.further_ports(machine.identity) == (boot.SSH_PORT,)
    (machine.credentials / "gatehouse.authorized_keys").unlink()
    machine.boot()
    assert boot.further_ports(machine.identity) == ()


def test_credentials_of_others_are_left_alone(machine: Machine) -> None:
    (machine.credentials / "ssh.authorized_keys.root").write_text("ssh-ed25519 AAAA\n")
    machine.boot()
    assert not [path for path in machine.identity.iterdir() if "authorized" in path.name]


def test_a_renewed_certificate_outlives_a_reboot(machine: Machine) -> None:
    machine.boot()
    renewed = machine.renew()
    boot.kept_certificate(machine.state).write_bytes(renewed)
    assert machine.boot() == renewed
    # also when the state disk is lost after it was served with
    boot.kept_certificate(machine.state).unlink()
    assert machine.boot() == renewed


def test_an_older_one_than_the_one_given_is_passed_over(machine: Machine) -> None:
    boot.kept_certificate(machine.state).write_bytes(machine.given)
    renewed = machine.renew()
    machine.give("cert.pem", renewed)
    assert machine.boot() == renewed


@pytest.mark.parametrize("damaged", [b"", b"no certificate", b"\0" * 4096])
def test_a_damaged_one_is_passed_over(machine: Machine, damaged: bytes) -> None:
    boot.kept_certificate(machine.state).write_bytes(damaged)
    assert machine.boot() == machine.given


def test_one_of_another_appliance_is_passed_over(machine: Machine) -> None:
    # of the same CA and key
    boot.kept_certificate(machine.state).write_bytes(machine.renew("r-2"))
    assert machine.boot() == machine.given


def test_one_of_another_authority_is_passed_over(machine: Machine, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = Authority(tmp_path_factory.mktemp("other"))
    boot.kept_certificate(machine.state).write_bytes(other.issue("r-1", "router").certificate)
    assert machine.boot() == machine.given
