from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.secrets import KEY_FILE, Secrets, SecretsError, load_secrets

SECRETS = Secrets(bytes(32))


@given(st.text())
def test_what_is_sealed_opens(text: str) -> None:
    sealed = SECRETS.seal(text)
    assert SECRETS.open(sealed) == text
    assert SECRETS.seal(text) != sealed


@given(st.binary(max_size=80))
def test_anything_else_does_not_open(blob: bytes) -> None:
    with pytest.raises(SecretsError):
        SECRETS.open(blob)


def test_another_key_or_a_changed_byte_does_not_open() -> None:
    sealed = SECRETS.seal("secret")
    with pytest.raises(SecretsError, match=KEY_FILE):
        Secrets(bytes(31) + b"1").open(sealed)
    with pytest.raises(SecretsError):
        SECRETS.open(sealed[:-1] + bytes([sealed[-1] ^ 1]))


def test_the_key_is_made_once_and_private(tmp_path: Path) -> None:
    sealed = load_secrets(tmp_path).seal("secret")
    assert load_secrets(tmp_path).open(sealed) == "secret"
    assert (tmp_path / KEY_FILE).stat().st_mode & 0o777 == 0o600


def test_a_damaged_key_file_is_named(tmp_path: Path) -> None:
    (tmp_path / KEY_FILE).write_bytes(b"short")
    with pytest.raises(SecretsError, match="restore it from a backup"):
        load_secrets(tmp_path)


def test_sealed_texts_in_results() -> None:
    stored = {"virtualmachine": {"password": SECRETS.seal_text("p"), "tags": ["x", 1]}, "other": "sealed:no"}
    assert stored["virtualmachine"]["password"] != "p"  # type: ignore[index]
    assert SECRETS.reveal(stored) == {"virtualmachine": {"password": "p", "tags": ["x", 1]}, "other": "sealed:no"}
