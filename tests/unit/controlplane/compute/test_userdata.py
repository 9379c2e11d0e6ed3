from __future__ import annotations

import base64
import urllib.parse

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.compute import userdata
from controlplane.errors import ParameterError


@given(st.binary(min_size=1, max_size=300))
def test_every_way_clients_send_it_comes_out_the_same(raw: bytes) -> None:
    text = base64.b64encode(raw).decode()
    wrapped = "\r\n".join(text[at : at + 76] for at in range(0, len(text), 76))
    for sent in (text, text.rstrip("="), wrapped, text.replace("+", " "), urllib.parse.quote(text, safe="")):
        assert userdata.check(sent, 32768) == text


@pytest.mark.parametrize("text", ["x", "no base64!", "ä", "AAAA=AAA", "====="])
def test_what_is_no_base64_is_refused(text: str) -> None:
    with pytest.raises(ParameterError, match="base64"):
        userdata.check(text, 32768)


def test_the_limit_is_on_what_the_guest_gets() -> None:
    at_limit = base64.b64encode(b"x" * 32768).decode()
    assert userdata.check(at_limit, 32768) == at_limit
    with pytest.raises(ParameterError, match="32769 bytes"):
        userdata.check(base64.b64encode(b"x" * 32769).decode(), 32768)


def test_nothing_takes_it_away() -> None:
    assert userdata.check("", 10) is None


def test_passwords_are_long_and_differ() -> None:
    made = {userdata.new_password(12) for _ in range(100)}
    assert len(made) == 100
    assert all(len(password) == 12 and set(password) <= set(userdata.PASSWORD_ALPHABET) for password in made)
