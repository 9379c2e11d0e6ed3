from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from router.services.password import vault as vault_module
from router.services.password.vault import KEEP_SECONDS, Secret, Vault

ADDRESS = "10.1.1.10"
FIRST, SECOND = Secret("reset-1", ADDRESS, "one"), Secret("reset-2", ADDRESS, "two")


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    made = Vault(tmp_path / "vault")
    made.create()
    return made


def names(tmp_path: Path) -> list[str]:
    root = tmp_path / "vault"
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def test_put_read_confirm(vault: Vault, tmp_path: Path) -> None:
    vault.put([FIRST])
    assert vault.read(ADDRESS) == FIRST
    assert vault.read("10.1.1.1") is None
    assert vault.read("10.1.1.100") is None
    vault.confirm(ADDRESS, FIRST.id)
    assert vault.read(ADDRESS) is None and vault.is_fetched(FIRST.id)
    assert names(tmp_path) == ["fetched/id-reset-1"]


def test_confirmed_password_never_comes_back(vault: Vault) -> None:
    vault.put([FIRST])
    vault.confirm(ADDRESS, FIRST.id)
    vault.put([FIRST])
    assert vault.read(ADDRESS) is None
    vault.put([SECOND])
    assert vault.read(ADDRESS) == SECOND


def test_put_takes_back_what_is_no_longer_wanted(vault: Vault, tmp_path: Path) -> None:
    vault.put([FIRST, Secret("other", "10.1.1.11", "x")])
    vault.put([SECOND])
    assert names(tmp_path) == ["pending/10.1.1.10_reset-2"]


@pytest.mark.parametrize("left", ["", "on"])
def test_put_mends_what_a_power_cut_left(vault: Vault, tmp_path: Path, left: str) -> None:
    vault.put([FIRST])
    (tmp_path / "vault/pending" / f"{ADDRESS}_{FIRST.id}").write_text(left)
    vault.put([FIRST])
    assert vault.read(ADDRESS) == FIRST


def test_confirmation_during_put_wins(vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    def confirm_first(path: Path, text: str) -> None:
        vault.confirm(ADDRESS, FIRST.id)
        write(path, text)

    write = vault_module._write
    monkeypatch.setattr(vault_module, "_write", confirm_first)
    vault.put([FIRST])
    assert vault.read(ADDRESS) is None


def test_password_of_a_crash_between_mark_and_removal_is_not_served(vault: Vault, tmp_path: Path) -> None:
    vault.put([FIRST])
    (tmp_path / "vault/fetched/id-reset-1").touch()
    assert vault.read(ADDRESS) is None


def test_newest_is_served_while_two_are_there(vault: Vault, tmp_path: Path) -> None:
    vault.put([FIRST])
    (tmp_path / "vault/pending/10.1.1.10_reset-2").write_text("two")
    os.utime(tmp_path / "vault/pending/10.1.1.10_reset-1", (1, 1))
    assert vault.read(ADDRESS) == SECOND


def test_modes(vault: Vault, tmp_path: Path) -> None:
    vault.put([FIRST])
    vault.confirm(ADDRESS, "x")
    modes = {path.stat().st_mode & 0o777 for path in (tmp_path / "vault").rglob("*") if path.is_file()}
    assert modes == {0o600}
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "vault").rglob("*") if path.is_dir()} == {0o700}


@pytest.mark.parametrize("name", ["..", ".", "a:b", "-x"])
def test_any_id_is_a_file_name(vault: Vault, name: str) -> None:
    secret = Secret(name, ADDRESS, "x")
    vault.put([secret])
    assert vault.read(ADDRESS) == secret
    vault.confirm(ADDRESS, name)
    assert vault.is_fetched(name) and vault.read(ADDRESS) is None


def test_prune_keeps_what_a_document_still_names(vault: Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("old-needed", "old", "new"):
        vault.confirm(ADDRESS, name)
    long_ago = time.time() - KEEP_SECONDS - 1
    for name in ("old-needed", "old"):
        os.utime(tmp_path / f"vault/fetched/id-{name}", (long_ago, long_ago))
    vault.prune({"old-needed"})
    assert names(tmp_path) == ["fetched/id-new", "fetched/id-old-needed"]
    monkeypatch.setattr(vault_module, "KEEP_NUMBER", 0)
    vault.prune({"old-needed"})
    assert names(tmp_path) == ["fetched/id-old-needed"]


def test_repr_keeps_the_secret() -> None:
    assert "one" not in repr(FIRST) + str([FIRST])
