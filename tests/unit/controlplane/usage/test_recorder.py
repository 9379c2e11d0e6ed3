"""Spans are written by the transaction that changes what is metered, however it does so."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from controlplane.network import addresses, networks
from controlplane.securitygroups import groups
from controlplane.store.database import Database
from controlplane.store.models import (
    Network,
    Nic,
    PortForwardingRule,
    PublicIp,
    SecurityGroup,
    Template,
    UsageSpan,
    Vm,
)
from controlplane.usage import recorder
from controlplane.usage.types import UsageType
from tests.rows import Rows

RUNNING, ALLOCATED, ADDRESS = UsageType.RUNNING_VM, UsageType.ALLOCATED_VM, UsageType.IP_ADDRESS
OFFERING, FORWARD = UsageType.NETWORK_OFFERING, UsageType.PORT_FORWARDING_RULE
GROUP = UsageType.SECURITY_GROUP


class World:
    def __init__(self, database: Database) -> None:
        self.database = database
        with database.transaction() as session:
            rows = Rows(session)
            network = rows.network()
            self.network_id = network.id
            self.vm_id = rows.vm(network).id

    def lasting(self) -> list[int]:
        """Types of the spans that have no end."""
        with self.database.reading() as session:
            return sorted(session.scalars(select(UsageSpan.usage_type).where(UsageSpan.end.is_(None))))

    def spans(self, kind: UsageType) -> list[UsageSpan]:
        with self.database.reading() as session:
            return list(
                session.scalars(select(UsageSpan).where(UsageSpan.usage_type == kind).order_by(UsageSpan.begin))
            )

    def state(self, state: str) -> None:
        with self.database.transaction() as session:
            session.get_one(Vm, self.vm_id).state = state


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    database = Database.in_directory(tmp_path)
    database.migrate()
    yield World(database)
    database.close()


def test_a_vm_from_its_creation_to_its_end(world: World) -> None:
    assert world.lasting() == [RUNNING, ALLOCATED, GROUP, OFFERING]
    for state in ("Stopping", "Starting", "Running"):
        # a reboot is no interruption
        world.state(state)
    assert len(world.spans(RUNNING)) == 1
    world.state("Stopped")
    assert world.lasting() == [ALLOCATED, GROUP]
    world.state("Starting")
    assert world.lasting() == [ALLOCATED, GROUP]
    world.state("Running")
    assert world.lasting() == [RUNNING, ALLOCATED, GROUP, OFFERING]
    world.state("Destroyed")
    assert world.lasting() == []
    world.state("Stopped")
    assert world.lasting() == [ALLOCATED, GROUP]
    first, second = world.spans(ALLOCATED)
    assert first.end is not None and first.begin < first.end <= second.begin
    assert [span.end is None for span in world.spans(RUNNING)] == [False, False]


def test_another_offering_is_another_span(world: World) -> None:
    with world.database.transaction() as session:
        vm = session.get_one(Vm, world.vm_id)
        rows = vm.service_offering
        session.expunge(rows)
        copy = type(rows)(name="big", display_text="big", cpu_number=8, cpu_speed=1, memory=4096)
        session.add(copy)
        session.flush()
        vm.service_offering_id = copy.id
    small, big = world.spans(RUNNING)
    assert small.end == big.begin
    assert (small.details["memory"], big.details["memory"], big.end) == (64, 4096, None)


def test_what_is_rolled_back_was_never_there(world: World) -> None:
    with pytest.raises(RuntimeError), world.database.transaction() as session:
        session.get_one(Vm, world.vm_id).state = "Stopped"
        session.flush()
        raise RuntimeError
    assert world.lasting() == [RUNNING, ALLOCATED, GROUP, OFFERING]
    assert len(world.spans(RUNNING)) == 1


def test_a_savepoint_that_is_rolled_back_does_not_count(world: World) -> None:
    with world.database.transaction() as session:
        vm = session.get_one(Vm, world.vm_id)
        with pytest.raises(RuntimeError), session.begin_nested():
            vm.state = "Stopped"
            session.flush()
            raise RuntimeError
        with session.begin_nested():
            vm.display_name = "still there"
    assert world.lasting() == [RUNNING, ALLOCATED, GROUP, OFFERING]


def test_addresses_and_rules_that_are_deleted_by_the_many(world: World) -> None:
    with world.database.transaction() as session:
        network = session.get_one(Network, world.network_id)
        source = addresses.ensure_source_nat(session, network)
        assert source is not None
        other = addresses.associate(session, network, None)
        nic = session.scalars(select(Nic)).one()
        for port in (80, 81):
            session.add(
                PortForwardingRule(
                    network_id=network.id,
                    public_ip_id=other.id,
                    nic_id=nic.id,
                    protocol="tcp",
                    public_port=port,
                    public_end_port=port,
                    private_port=port,
                    private_end_port=port,
                )
            )
        assert source.id != other.id
    assert world.lasting() == [RUNNING, ALLOCATED, ADDRESS, ADDRESS, GROUP, FORWARD, FORWARD, OFFERING]
    assert [span.details["source_nat"] for span in world.spans(ADDRESS)] in ([True, False], [False, True])
    with world.database.transaction() as session:
        session.execute(delete(PortForwardingRule).where(PortForwardingRule.public_port == 80))
    assert world.lasting() == [RUNNING, ALLOCATED, ADDRESS, ADDRESS, GROUP, FORWARD, OFFERING]
    with world.database.transaction() as session:
        session.execute(update(Vm).values(state="Stopped"))
        networks.finish_delete(session, world.network_id)
    assert world.lasting() == [ALLOCATED, GROUP]


def test_a_network_s_new_offering_is_a_new_span_of_its_guests(world: World) -> None:
    with world.database.transaction() as session:
        network = session.get_one(Network, world.network_id)
        old = network.offering
        fresh = type(old)(name="other", display_text="other", services=old.services)
        session.add(fresh)
        session.flush()
        network.network_offering_id = fresh.id
    before, after = world.spans(OFFERING)
    assert (before.end is None, after.end is None) == (False, True)
    assert before.details["usage_id"] != after.details["usage_id"]


def test_a_vm_s_place_in_a_group_counts_until_it_leaves(world: World) -> None:
    with world.database.transaction() as session:
        vm = session.get_one(Vm, world.vm_id)
        web, db = (groups.create(session, vm.account, name, None) for name in ("web", "db"))
        groups.assign(session, vm, [web])
    with world.database.transaction() as session:
        vm = session.get_one(Vm, world.vm_id)
        groups.assign(session, vm, [session.get_one(SecurityGroup, id) for id in (web.id, db.id)])
    # the membership that lasted is one span
    assert [(span.details["name"], span.details["vm_id"], span.end) for span in world.spans(GROUP)[1:]] == [
        ("web", world.vm_id, None),
        ("db", world.vm_id, None),
    ]
    with world.database.transaction() as session:
        groups.assign(session, session.get_one(Vm, world.vm_id), [session.get_one(SecurityGroup, db.id)])
    assert [span.details["name"] for span in world.spans(GROUP) if span.end is None] == ["db"]
    world.state("Stopped")
    assert world.lasting() == [ALLOCATED, GROUP]
    world.state("Destroyed")
    assert world.lasting() == []


def test_only_templates_of_users_are_metered(world: World) -> None:
    with world.database.transaction() as session:
        builtin = session.scalars(select(Template)).one()
        zone_id = session.get_one(Vm, world.vm_id).zone_id
        common = {"display_text": "", "account_id": builtin.account_id, "hypervisor": "x", "image": "x", "size": 7}
        session.add(Template(name="mine", format="QCOW2", zone_id=zone_id, **common))
        session.add(Template(name="cd", format="ISO", zone_id=zone_id, **common))
        session.add(Template(name="theirs", format="QCOW2", zone_id=zone_id, type="BUILTIN", **common))
    assert [span.details["name"] for span in world.spans(UsageType.TEMPLATE)] == ["mine"]
    assert [span.details["size"] for span in world.spans(UsageType.ISO)] == [7]


def test_rows_from_before_there_was_metering_are_caught_up_with(world: World) -> None:
    with Session(world.database.engine) as session, session.begin():
        # not a recording session, as in a database of an earlier version
        session.execute(delete(UsageSpan))
        session.get_one(Vm, world.vm_id).state = "Stopped"
    with world.database.transaction() as session:
        assert recorder.catch_up(session) == 2
        assert recorder.catch_up(session) == 0
    assert world.lasting() == [ALLOCATED, GROUP]
    with world.database.transaction() as session:
        assert session.scalars(select(PublicIp)).first() is None
