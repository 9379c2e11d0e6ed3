"""Settings: the catalogue is consistent, the narrowest scope wins."""

from __future__ import annotations

import pytest

from controlplane.configuration import SETTINGS, Configuration, Setting
from controlplane.errors import ParameterError
from tests.control import FakeRuntime


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
def test_defaults_are_valid(setting: Setting) -> None:
    assert setting.check(setting.default) == setting.default
    assert setting.description and not setting.description.endswith(".")


def test_names_are_unique() -> None:
    assert len({setting.name for setting in SETTINGS}) == len(SETTINGS)


def test_scopes(runtime: FakeRuntime) -> None:
    configuration, name = Configuration(), "max.account.networks"
    with runtime.database.transaction() as session:
        assert configuration.get_int(session, name, account="a", domain="d") == 20
        configuration.set(session, name, "30")
        configuration.set(session, name, "40", "domain", "d")
        assert configuration.get_int(session, name) == 30
        assert configuration.get_int(session, name, account="a", domain="d") == 40
        configuration.set(session, name, "50", "account", "a")
        assert configuration.get_int(session, name, account="a", domain="d") == 50
        assert configuration.get_int(session, name, account="b", domain="e") == 30
        with pytest.raises(ParameterError, match="cannot be set for one zone"):
            configuration.set(session, name, "1", "zone", "z")


@pytest.mark.parametrize(
    ("kind", "good", "stored", "bad"),
    [
        ("Integer", " 7 ", "7", ["", "x", "1.5", "9" * 20, "-2", "٣x"]),
        ("Boolean", "TRUE", "true", ["1", "yes", ""]),
        ("CIDR", "10.0.0.0/8", "10.0.0.0/8", ["10.0.0.1/8", "x", "10.0.0.0/33"]),
        ("Range", "10.0.0.1 - 10.0.0.9", "10.0.0.1-10.0.0.9", ["10.0.0.1", "10.0.0.9-10.0.0.1", "a-b"]),
        ("String", " a ", "a", ["x" * 5000]),
    ],
)
def test_kinds(kind: str, good: str, stored: str, bad: list[str]) -> None:
    setting = Setting("a.b", "c", "", kind, "d")  # type: ignore[arg-type]
    assert setting.check(good) == stored
    for text in bad:
        with pytest.raises(ParameterError, match=r"^a\.b"):
            setting.check(text)
