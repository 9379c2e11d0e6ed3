"""The password section: what is refused, and that a password shows nowhere but on the wire."""

from __future__ import annotations

from typing import Any

import pytest

from router.services.password.model import Passwords
from tests.documents import small_state
from tests.unit.router.refused import assert_refused, problems


@pytest.mark.parametrize(
    ("path", "value", "field", "message"),
    [
        ("+", {"id": "password-1", "address": "10.1.1.11", "password": "x"}, "1.id", "password-1 is given twice"),
        ("+", {"id": "p", "address": "10.1.1.10", "password": "x"}, "1.address", "p: 10.1.1.10 is given two passwords"),
        ("+", {"id": "p", "address": "10.1.1.11", "password": ""}, "1.password", "p: "),
        ("+", {"id": "p", "address": "10.1.1.11", "password": "x" * 257}, "1.password", "p: "),
        ("+", {"id": "p", "address": "10.1.1.11", "password": 5}, "1.password", "p: "),
    ],
)
def test_refused(path: str, value: Any, field: str, message: str) -> None:
    assert_refused(f"passwords.pending.{path}", value, f"passwords.pending.{field}", message)


def test_a_password_is_in_the_json_and_nowhere_else() -> None:
    section = Passwords.model_validate(small_state()["passwords"])
    assert "correct horse" in section.model_dump_json()
    assert "correct horse" not in repr(section)
    assert "correct horse" not in str(section)


@pytest.mark.parametrize(
    "entry", [{"id": "p", "password": "hunter2"}, {"id": "p", "address": "hunter2", "password": {}}]
)
def test_an_error_does_not_tell_what_was_refused(entry: dict[str, Any]) -> None:
    assert "hunter2" not in repr(problems("passwords.pending.+", entry))
