"""Network rates: the table of the guide's chapter 8.3."""

from __future__ import annotations

from dataclasses import replace

from sqlalchemy.orm import Session

from controlplane.configuration import Configuration
from controlplane.convergence.compile.router import compile_router
from controlplane.network import allocation, rates
from router.document import RouterDocument
from tests.rows import Rows
from tests.unit.controlplane.intents import EVERYTHING, SMALL, isolated


def compiled(*networks: int) -> dict[str, int]:
    """Interface -> rate of a router that serves networks of these rates."""
    nics = list(SMALL.nics)
    served = tuple(
        isolated(f"net{number}", f"10.{number}.0.0/24", f"10.{number}.0.1", "a.example", 1450, False, EVERYTHING, rate)
        for number, rate in enumerate(networks)
    )
    guests = tuple(
        nics[0]._replace(name=f"tier{i}", mac=f"0e:ff:00:00:00:0{i}", network=f"net{i}") for i in range(len(served))
    )
    intent = replace(SMALL, networks=served, nics=(*guests, *nics[1:]))
    state = RouterDocument.model_validate_json(compile_router(intent)).state
    return {shaped.interface: shaped.mbit for shaped in state.shaping.interfaces} if state.shaping else {}


def test_a_router_has_the_rate_of_its_network_inside_and_outside() -> None:
    assert compiled(10) == {"tier0": 10, "eth2": 10}
    assert compiled(0) == {}
    # beyond what a token bucket can count
    assert compiled(40_000) == {}


def test_tiers_share_the_outside_at_the_highest_of_their_rates() -> None:
    assert compiled(10, 50) == {"tier0": 10, "tier1": 50, "eth2": 50}
    assert compiled(10, 0) == {"tier0": 10}


def test_settings_stand_in_for_offerings_that_say_nothing(rows: Rows, session: Session) -> None:
    configuration = Configuration()
    first, second = rows.network(name="first"), rows.network(name="second")
    vm = rows.vm(first)
    other = allocation.add_nic(session, vm_id=vm.id, network=second, device_id=1, is_default=False)
    session.refresh(vm, ["nics"])
    default = next(nic for nic in vm.nics if nic.is_default)

    def found() -> tuple[int, int, int]:
        offered = first.offering.network_rate
        network = rates.of_network(session, configuration, offered, first.zone_id)
        return network, rates.of_nic(session, configuration, default), rates.of_nic(session, configuration, other)

    assert found() == (200, 200, 200)
    configuration.set(session, rates.NETWORK_RATE, "50")
    configuration.set(session, rates.VM_RATE, "30")
    assert found() == (50, 30, 50)
    configuration.set(session, rates.NETWORK_RATE, "60", "zone", first.zone_id)
    assert found() == (60, 30, 60)
    first.offering.network_rate = second.offering.network_rate = 10
    assert found() == (10, 30, 10)
    # zero is said, and means no limit
    vm.service_offering.network_rate = 0
    assert found() == (10, 0, 10)
