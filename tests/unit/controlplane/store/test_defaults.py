"""A new installation, and starting it again."""

from __future__ import annotations

import json
from pathlib import Path

from sqlalchemy import func, select

from controlplane.api.passwords import check_password
from controlplane.store.defaultofferings import DEFAULT_NETWORK_OFFERING
from controlplane.store.defaultofferings import SHARED_NETWORK_OFFERING as SHARED
from controlplane.store.defaults import ADMIN_FILE, ADMIN_USER_ID, ensure_defaults
from controlplane.store.models import Base, NetworkOffering, ServiceOffering, User, now
from tests.control import FACTS, FakeRuntime


def _counts(runtime: FakeRuntime) -> dict[str, int]:
    with runtime.database.reading() as session:
        tables = Base.metadata.sorted_tables
        return {table.name: session.scalar(select(func.count()).select_from(table)) or 0 for table in tables}


def test_starting_again_changes_nothing(runtime: FakeRuntime, tmp_path: Path) -> None:
    before = _counts(runtime)
    with runtime.database.transaction() as session:
        offering = session.scalars(select(ServiceOffering).where(ServiceOffering.name == "Small Instance")).one()
        session.delete(offering)
    with runtime.database.transaction() as session:
        ensure_defaults(session, runtime.secrets, [FACTS], tmp_path)
    # what the operator deleted stays away
    assert _counts(runtime) == before | {"service_offering": before["service_offering"] - 1}
    assert not (tmp_path / ADMIN_FILE).exists()


def test_the_administrator(runtime: FakeRuntime) -> None:
    path = runtime.data / ADMIN_FILE
    assert path.stat().st_mode & 0o777 == 0o600
    login = json.loads(path.read_text())
    with runtime.database.reading() as session:
        user = session.get_one(User, ADMIN_USER_ID)
        assert user.username == login["username"]
        assert check_password(login["password"], user.password_hash)
        assert not check_password(login["password"] + "x", user.password_hash)
        assert user.secret_key is not None
        stored = b"".join(file.read_bytes() for file in runtime.data.glob("gatehouse.db*"))
        for secret in (login["password"], runtime.secrets.open(user.secret_key)):
            assert secret.encode() not in stored


def test_the_default_network_offering(runtime: FakeRuntime) -> None:
    with runtime.database.reading() as session:
        rows = {row.name: row for row in session.scalars(select(NetworkOffering))}
    assert set(rows[DEFAULT_NETWORK_OFFERING].services) == {
        *("Dhcp", "Dns", "SourceNat", "StaticNat", "PortForwarding", "Firewall", "Lb", "Vpn", "UserData"),
    }
    assert [row.is_persistent for row in rows.values()].count(True) == 1
    assert [row.egress_default_allow for row in rows.values()].count(True) == 1


def test_an_older_installation_gains_what_is_new(runtime: FakeRuntime, tmp_path: Path) -> None:
    with runtime.database.transaction() as session:
        rows = {row.name: row for row in session.scalars(select(NetworkOffering))}
        old, removed, shared = (
            rows[DEFAULT_NETWORK_OFFERING],
            rows[f"{DEFAULT_NETWORK_OFFERING}Persistent"],
            rows[SHARED],
        )
        old.services = {name: entry for name, entry in old.services.items() if name != "Lb"}
        old.services["SourceNat"]["capabilities"]["SupportedSourceNatTypes"] = "perzone"
        old.display_text = "as an operator called it"
        removed.removed = now()
        session.delete(shared)
    for _ in range(2):
        with runtime.database.transaction() as session:
            ensure_defaults(session, runtime.secrets, [FACTS], tmp_path)
    with runtime.database.reading() as session:
        rows = {row.name: row for row in session.scalars(select(NetworkOffering))}
        old, shared = rows[DEFAULT_NETWORK_OFFERING], rows[SHARED]
        assert "Lb" in old.services and "SecurityGroup" not in old.services
        assert old.services["SourceNat"]["capabilities"]["SupportedSourceNatTypes"] == "perzone"
        assert old.display_text == "as an operator called it"
        assert rows[f"{DEFAULT_NETWORK_OFFERING}Persistent"].removed is not None
        assert (shared.guest_ip_type, shared.specify_vlan, sorted(shared.services)) == (
            "Shared",
            True,
            ["Dhcp", "Dns", "UserData"],
        )
