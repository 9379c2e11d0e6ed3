"""Every byte that a router counted is in exactly one sample, whatever crashes or comes late."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, func, select

from appliance.schema.traffic import Counter, Kind, Traffic
from controlplane.network import addresses
from controlplane.store.database import Database
from controlplane.store.models import (
    Network,
    PublicIp,
    TrafficCounter,
    TrafficSample,
    UsageJob,
    UsageRecord,
    UsageSpan,
    VpnConnection,
    VpnCustomerGateway,
    VpnGateway,
    now,
)
from controlplane.usage import aggregation, traffic
from controlplane.usage.types import UsageType
from tests.rows import Rows

ROUTER = "router-1"


@dataclass
class World:
    database: Database
    network_id: str = ""
    address_id: str = ""
    nic_id: str = ""
    vm_id: str = ""
    clock: float = field(default_factory=lambda: now().timestamp())

    def told(
        self, received: int, sent: int, *, epoch: str = "a", id: str | None = None, kind: Kind = "public"
    ) -> Traffic:
        self.clock += 60.0
        counter = Counter(
            id=id or self.address_id,
            kind=kind,
            address="198.51.100.10",
            received=received,
            sent=sent,
        )
        return Traffic(epoch=epoch, taken=self.clock, counters=(counter,))

    def take(self, told: Traffic, appliance: str = ROUTER) -> None:
        with self.database.transaction() as session:
            traffic.take(session, appliance, told)

    def sums(self) -> tuple[int, int]:
        with self.database.reading() as session:
            row = session.execute(select(func.sum(TrafficSample.received), func.sum(TrafficSample.sent))).one()
            return row[0] or 0, row[1] or 0


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    database = Database.in_directory(tmp_path_factory.mktemp("traffic"))
    database.migrate()
    world = World(database)
    with database.transaction() as session:
        rows = Rows(session)
        network = rows.network()
        vm = rows.vm(network)
        world.network_id, world.vm_id, world.nic_id = network.id, vm.id, vm.nics[0].id
        source = addresses.ensure_source_nat(session, network)
        assert source is not None
        world.address_id = source.id
    yield world
    database.close()


@pytest.fixture
def world(prepared: World) -> World:
    with prepared.database.transaction() as session:
        for model in (TrafficSample, TrafficCounter, UsageJob, UsageRecord):
            session.execute(delete(model))
    prepared.clock = now().timestamp()
    return prepared


def test_totals_become_differences(world: World) -> None:
    for total in (100, 100, 250):
        world.take(world.told(total, 2 * total))
    assert world.sums() == (250, 500)
    with world.database.reading() as session:
        first, second = session.scalars(select(TrafficSample).order_by(TrafficSample.end))
    assert (first.received, second.received) == (100, 150)
    # the reading in between is where the second begins
    assert second.end - second.start == timedelta(seconds=60)
    assert (first.network_id, first.kind) == (world.network_id, "public")


def test_a_reading_that_is_not_committed_is_in_the_next_one(world: World) -> None:
    world.take(world.told(100, 0))
    with pytest.raises(RuntimeError), world.database.transaction() as session:
        traffic.take(session, ROUTER, world.told(170, 0))
        raise RuntimeError("killed between the reading and the commit")
    assert world.sums() == (100, 0)
    world.take(world.told(200, 0))
    assert world.sums() == (200, 0)


def test_an_older_reading_that_comes_late_adds_nothing(world: World) -> None:
    old, new = world.told(100, 0), world.told(150, 0)
    world.take(new)
    world.take(old)
    world.take(new)
    assert world.sums() == (150, 0)


def test_totals_that_began_again_and_another_router_count_from_zero(world: World) -> None:
    world.take(world.told(100, 0))
    world.take(world.told(30, 0, epoch="b"))
    world.take(world.told(20, 0), appliance="router-2")
    assert world.sums() == (150, 0)


def test_a_vpn_is_its_owner_s(world: World) -> None:
    with world.database.transaction() as session:
        network = session.get_one(Network, world.network_id)
        common = {"account_id": network.account_id}
        far = VpnCustomerGateway(
            name="far", gateway="192.0.2.1", cidrs=["10.9.0.0/16"], psk=b"", ike_policy="", esp_policy="", **common
        )
        near = VpnGateway(network_id=network.id, public_ip_id=world.address_id, **common)
        session.add_all([far, near])
        session.flush()
        connection = VpnConnection(gateway_id=near.id, customer_gateway_id=far.id, **common)
        session.add(connection)
    world.take(world.told(70, 80, id=connection.id, kind="vpn"))
    with world.database.reading() as session:
        [sample] = session.scalars(select(TrafficSample))
        assert (sample.kind, sample.subject_id, sample.network_id) == ("vpn", connection.id, network.id)
        assert (sample.account_id, sample.received, sample.sent) == (network.account_id, 70, 80)


def test_guests_are_known_by_their_nic_also_when_it_is_gone(world: World) -> None:
    world.take(world.told(5, 6, id=world.nic_id, kind="guest"))
    with world.database.reading() as session:
        sample = session.scalars(select(TrafficSample)).one()
    assert (sample.vm_id, sample.kind, sample.network_id) == (world.vm_id, "guest", world.network_id)
    world.take(world.told(5, 6, id="203.0.113.99"))
    assert world.sums() == (5, 6)


def test_an_address_that_was_released_still_has_its_owner(world: World) -> None:
    with world.database.transaction() as session:
        network = session.get_one(Network, world.network_id)
        gone = addresses.associate(session, network, None).id
    with world.database.transaction() as session:
        session.delete(session.get_one(PublicIp, gone))
    world.take(world.told(7, 8, id=gone))
    assert world.sums() == (7, 8)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 10**9), st.sampled_from(["read", "crash", "cut", "reset"])), max_size=12))
def test_records_add_up_to_what_was_counted(world: World, steps: list[tuple[int, str]]) -> None:
    """Readings, crashes, resets and records of any stretch: the records' bytes are the routers' bytes."""
    with world.database.transaction() as session:
        for model in (TrafficSample, TrafficCounter, UsageJob, UsageRecord):
            session.execute(delete(model))
        begun = session.scalar(select(func.min(UsageSpan.begin)))
    assert begun is not None
    total, epoch, expected, done = 0, 0, 0, begun
    world.clock = begun.timestamp() + 1

    def cut() -> None:
        nonlocal done
        end = max(done + timedelta(seconds=1), begun + timedelta(seconds=world.clock - begun.timestamp() - 25))
        with world.database.transaction() as session:
            aggregation.make(session, done, end)
        done = end

    for count, event in steps:
        total += count
        expected += count
        told = world.told(total, 0, epoch=str(epoch))
        if event == "crash":
            with pytest.raises(RuntimeError), world.database.transaction() as session:
                traffic.take(session, ROUTER, told)
                raise RuntimeError
        elif event == "cut":
            cut()
        else:
            world.take(told)
            if event == "reset":
                # its state was lost after all of it had been told
                total, epoch = 0, epoch + 1
    world.take(world.told(total, 0, epoch=str(epoch)))
    world.clock += 3600
    cut()
    with world.database.reading() as session:
        kind = UsageType.NETWORK_BYTES_RECEIVED
        made = session.scalar(select(func.sum(UsageRecord.raw_usage)).where(UsageRecord.usage_type == kind))
    assert int(made or 0) == expected == world.sums()[0]


def test_samples_go_when_they_are_old_and_in_a_record(world: World) -> None:
    world.take(world.told(1, 1))
    far = now() + timedelta(days=30)
    with world.database.transaction() as session:
        assert traffic.prune(session, far) == 0
        aggregation.make(session, now() - timedelta(days=1), now() + timedelta(days=1))
        assert traffic.prune(session, now() - timedelta(days=1)) == 0
        assert traffic.prune(session, far) == 1
