from __future__ import annotations

import shutil
import stat
from pathlib import Path

import pytest

from controlplane.hypervisors.namespace import boot

PASSWD = "root:x:0:0:root:/root:/bin/bash\ndnsmasq:x:107:65534:dnsmasq:/var/lib/misc:/usr/sbin/nologin\n"


def test_the_agent_is_started_again_by_init_whatever_the_path() -> None:
    assert boot.appliance_inittab("/opt/venv/bin/python") == "::respawn:/opt/venv/bin/python -m appliance.agent\n"
    assert "'/opt/my venv/bin/python'" in boot.appliance_inittab("/opt/my venv/bin/python")


def test_with_one_user_every_name_means_root() -> None:
    merged = boot.single_user(PASSWD).splitlines()
    assert merged[1] == "dnsmasq:x:0:0:dnsmasq:/var/lib/misc:/usr/sbin/nologin"
    assert boot.single_user("dip:x:30:a,b\n") == "dip:x:0:a,b\n"


def test_nobody_can_log_in_with_a_password_at_first() -> None:
    fields = [line.split(":") for line in boot.locked_shadow(PASSWD).splitlines()]
    assert [(field[0], field[1], len(field)) for field in fields] == [("root", "*", 9), ("dnsmasq", "*", 9)]


def test_machine_ids_differ_and_stay() -> None:
    assert boot.machine_id("a") == boot.machine_id("a") != boot.machine_id("b")
    assert len(boot.machine_id("a")) == 32


def test_only_what_everybody_may_read_is_copied(tmp_path: Path) -> None:
    source, target = tmp_path / "etc", tmp_path / "copy"
    (source / "open").mkdir(parents=True)
    (source / "closed").mkdir(mode=0o700)
    for name, mode in {"open/a": 0o644, "open/secret": 0o640, "closed/b": 0o644, "skipped": 0o644}.items():
        (source / name).write_text(name)
        (source / name).chmod(mode)
    (source / "link").symlink_to("/etc/shadow")
    boot.copy_tree(source, target, frozenset({"skipped"}))
    assert sorted(str(path.relative_to(target)) for path in target.rglob("*")) == ["link", "open", "open/a"]
    assert (target / "link").readlink() == Path("/etc/shadow")


def test_secrets_are_private_from_the_start(tmp_path: Path) -> None:
    boot.write(tmp_path / "key", b"old", 0o644)
    boot.write(tmp_path / "key", b"new", 0o600)
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600
    assert (tmp_path / "key").read_bytes() == b"new"


def test_an_appliance_keeps_its_state_and_gets_a_fresh_identity(tmp_path: Path) -> None:
    def prepare(identity: dict[str, bytes]) -> None:
        boot.prepare_appliance(tmp_path, "r-1", "r-1", "inittab\n", identity, one_user=True)

    prepare({"key.pem": b"one", "old.pem": b"old"})
    (tmp_path / "var/lib/gatehouse/last-good").write_text("state")
    prepare({"key.pem": b"two"})
    assert (tmp_path / "var/lib/gatehouse/last-good").read_text() == "state"
    secret = tmp_path / "etc/gatehouse-identity"
    assert stat.S_IMODE(secret.stat().st_mode) == 0o700
    assert {path.name: path.read_bytes() for path in secret.iterdir()} == {"key.pem": b"two"}
    assert (tmp_path / "etc/hostname").read_text() == "r-1\n"
    assert (tmp_path / "etc/resolv.conf").read_text() == ""
    assert all(line.split(":")[2] == "0" for line in (tmp_path / "etc/passwd").read_text().splitlines())


def test_a_guest_keeps_what_it_changed(tmp_path: Path) -> None:
    boot.prepare_guest(tmp_path, "g-1", "vm1", "bare")
    etc = tmp_path / "root/upper/etc"
    (etc / "hostname").write_text("renamed\n")
    boot.prepare_guest(tmp_path, "g-1", "vm1", "bare")
    assert (etc / "hostname").read_text() == "renamed\n"
    assert (etc / "inittab").read_text() == boot.guest_inittab("bare")


def test_nothing_is_written_where_a_guest_may_have_put_links(tmp_path: Path) -> None:
    boot.prepare_guest(tmp_path, "g-1", "vm1", "bare")
    machine, etc = tmp_path / "machine", tmp_path / "root/upper/etc"
    machine.mkdir()
    shutil.rmtree(etc)
    etc.symlink_to(machine)
    boot.prepare_guest(tmp_path, "g-1", "vm1", "bare")
    assert list(machine.iterdir()) == []


@pytest.mark.parametrize("template", sorted(boot.TEMPLATES))
def test_every_program_of_a_template_exists(template: str) -> None:
    for line in boot.guest_inittab(template).splitlines():
        program = line.split(":")[3].split(" ", 1)[0]
        if program.startswith("/etc/guest/"):
            path = Path(boot.__file__).parent / "guest" / Path(program).name
            assert path.stat().st_mode & 0o111
        else:
            assert program == "/usr/bin/busybox"
