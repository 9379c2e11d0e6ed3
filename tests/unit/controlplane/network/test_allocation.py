from __future__ import annotations

import contextlib
from ipaddress import IPv4Address

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select
from sqlalchemy.orm import Session

from controlplane.errors import CapacityError, InUseError, ParameterError
from controlplane.network import addresses, allocation, networks
from controlplane.store.models import Account, Network, Nic, PublicIp, Vm
from tests.rows import Rows


def _add(rows: Rows, network: Network, vm: Vm, address: str | None = None) -> Nic:
    return allocation.add_nic(
        rows.session,
        vm_id=vm.id,
        network=network,
        device_id=0,
        is_default=False,
        address=IPv4Address(address) if address else None,
    )


def test_guests_get_the_lowest_free_addresses_but_not_the_gateway(rows: Rows) -> None:
    network = rows.network(networks.Subnet("10.5.0.2", "255.255.255.248"))
    got = [rows.nic(network).address for _ in range(5)]
    assert got == ["10.5.0.1", "10.5.0.3", "10.5.0.4", "10.5.0.5", "10.5.0.6"]
    with pytest.raises(CapacityError):
        rows.vm(network)


def test_the_range_of_a_network_limits_its_guests_but_not_those_that_ask(rows: Rows) -> None:
    network = rows.network(networks.Subnet("10.5.0.1", "255.255.255.0", "10.5.0.20", "10.5.0.21"))
    assert [rows.nic(network).address for _ in range(2)] == ["10.5.0.20", "10.5.0.21"]
    with pytest.raises(CapacityError):
        rows.vm(network)
    assert rows.vm(network, address="10.5.0.99").nics[0].address == "10.5.0.99"


@pytest.mark.parametrize(
    ("address", "error"),
    [
        ("10.1.1.1", ParameterError),
        ("10.1.1.0", ParameterError),
        ("10.1.1.255", ParameterError),
        ("10.1.2.5", ParameterError),
        ("10.1.1.9", InUseError),
    ],
)
def test_addresses_that_cannot_be_had(rows: Rows, address: str, error: type[Exception]) -> None:
    network = rows.network()
    rows.vm(network, address="10.1.1.9")
    with pytest.raises(error):
        rows.vm(network, address=address)


def test_macs_are_unicast_local_and_differ(rows: Rows) -> None:
    network = rows.network()
    macs = [rows.nic(network).mac for _ in range(50)]
    assert len(set(macs)) == 50
    assert all(mac.startswith("02:") for mac in macs)


def test_a_mac_in_use_is_refused(rows: Rows) -> None:
    network = rows.network()
    nic = rows.nic(network)
    with pytest.raises(InUseError):
        allocation.add_nic(
            rows.session, vm_id=nic.vm_id, network=rows.network(), device_id=1, is_default=False, mac=nic.mac
        )


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.booleans(), st.integers(1, 14)), max_size=40))
def test_no_guest_address_is_given_twice(rows: Rows, steps: list[tuple[bool, int]]) -> None:
    """Whatever is taken and given back, two NICs never have one address, and none has the gateway's."""
    with rows.session.begin_nested() as savepoint:
        network = rows.network(networks.Subnet("10.6.0.5", "255.255.255.240"))
        vm = rows.vm(rows.network())
        for give_back, number in steps:
            nics = rows.session.scalars(select(Nic).where(Nic.network_id == network.id)).all()
            if give_back and nics:
                rows.session.delete(nics[number % len(nics)])
                rows.session.flush()
                continue
            with contextlib.suppress(CapacityError, InUseError, ParameterError):
                _add(rows, network, vm, f"10.6.0.{number}" if number % 3 == 0 else None)
            held = rows.session.scalars(select(Nic.address).where(Nic.network_id == network.id)).all()
            assert len(held) == len(set(held))
            assert network.gateway not in held
        savepoint.rollback()


def test_two_sessions_that_choose_the_same_address_get_different_ones(
    rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The unique constraint decides; the loser takes the next one."""
    network, vm = rows.network(), rows.vm(rows.network())
    rows.vm(network, address="10.1.1.2")
    monkeypatch.setattr(allocation, "free_guest_addresses", lambda *_: iter(["10.1.1.2", "10.1.1.3"]))
    assert _add(rows, network, vm).address == "10.1.1.3"


def test_public_addresses_are_given_once_until_none_is_left(rows: Rows, session: Session) -> None:
    network = rows.network()
    taken = [addresses.associate(session, network, None).address for _ in range(10)]
    assert sorted(taken) == [f"198.51.100.{number}" for number in range(10, 20)]
    with pytest.raises(CapacityError):
        addresses.associate(session, network, None)
    one = session.scalars(select(PublicIp).where(PublicIp.address == taken[4])).one()
    addresses.release(session, one)
    with pytest.raises(CapacityError):  # it is the router's until the router has let it go
        addresses.associate(session, network, None)
    addresses.finish_release(session, one.id)
    assert addresses.associate(session, network, None).address == taken[4]


def test_a_public_address_of_one_s_choice(rows: Rows, session: Session) -> None:
    network = rows.network()
    assert addresses.associate(session, network, IPv4Address("198.51.100.15")).address == "198.51.100.15"
    with pytest.raises(InUseError):
        addresses.associate(session, network, IPv4Address("198.51.100.15"))
    with pytest.raises(ParameterError):
        addresses.associate(session, network, IPv4Address("198.51.100.20"))


def test_a_dedicated_range_is_for_its_account_only(rows: Rows, session: Session) -> None:
    bob = rows.add(Account(name="bob", domain_id=rows.domain.id))
    rows.public_range("198.51.100.100", "198.51.100.101", account=bob)
    mine, his = rows.network(), rows.network(account=bob)
    assert addresses.associate(session, his, None).address == "198.51.100.100"
    with pytest.raises(ParameterError):
        addresses.associate(session, mine, IPv4Address("198.51.100.101"))


def test_a_range_does_not_give_its_gateway(rows: Rows, session: Session) -> None:
    rows.public.start_ip, rows.public.end_ip = "198.51.100.1", "198.51.100.2"
    session.flush()
    assert addresses.associate(session, rows.network(), None).address == "198.51.100.2"
