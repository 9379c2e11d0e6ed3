from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from controlplane.configuration import Configuration
from controlplane.secrets import load_secrets
from controlplane.store.database import Database
from controlplane.store.models import now
from tests.acting import ActingRuntime, Tenant
from tests.control import caller_for, http_for, runtime_in


@pytest.fixture
def acting(filled: Path, tmp_path: Path) -> Iterator[ActingRuntime]:
    """A control plane whose jobs end at once."""
    directory = tmp_path / "acting"
    runtime_in(directory, filled).database.close()
    made = ActingRuntime(Database.in_directory(directory), Configuration(), load_secrets(directory))
    yield made
    made.database.close()


@pytest.fixture
def tenant(acting: ActingRuntime) -> Tenant:
    """The root administrator as a tenant."""
    return Tenant(caller_for(acting, http_for(acting)), acting)


@pytest.fixture
def bob(acting: ActingRuntime, tenant: Tenant) -> Tenant:
    """A user without any privilege."""
    made = tenant.call(
        "createAccount",
        accounttype=0,
        username="bob",
        password="secret-1234",
        firstname="Bob",
        lastname="B",
        email="bob@example.org",
    )
    user = made["account"]["user"][0]["id"]
    return Tenant(caller_for(acting, http_for(acting), user), acting)


@pytest.fixture
def noon(tenant: Tenant) -> str:
    """It is noon where days begin and end, so the hour before now is of one day; the difference to UTC."""
    ahead = 12 - now().hour
    # the signs of these names are POSIX's, west is positive
    tenant.call("updateConfiguration", name="usage.aggregation.timezone", value=f"Etc/GMT{-ahead:+d}")
    return f"{ahead:+03d}:00"
