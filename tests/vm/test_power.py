"""Reboots, power cuts and bad state disks: the router comes back by itself, or says what is wrong and takes orders."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import suppress
from functools import partial

import pytest

from appliance.schema.status import Health
from controlplane.convergence.push import AgentError
from tests.netns.lab import Lab, Router
from tests.vm.documents import Network, forward, ingress
from tests.vm.identities import with_role, without_identity
from tests.vm.qemu import QemuHypervisor
from tests.wait import wait_for


@pytest.fixture
def machine(network: Network) -> Iterator[QemuHypervisor]:
    """The hypervisor; the router is well and reachable before and after each test."""
    hypervisor = network.lab.hypervisor
    assert isinstance(hypervisor, QemuHypervisor)
    yield hypervisor
    with suppress(AgentError):
        network.router.generation = max(network.router.generation, network.router.status().generation)
    vm = hypervisor.vms[network.router.id]
    if hypervisor.power(network.router.id) != "running" or not network.reachable():
        hypervisor.cut_power(network.router.id)
        vm.state_disk.write_bytes(b"")
        with vm.state_disk.open("r+b") as disk:
            disk.truncate(64 << 20)
        power_on(network)
        network.router.push(network.state)


def power_on(network: Network) -> None:
    network.router.agent.close()
    network.router.start()


def test_the_power_button_ends_it_and_all_rules_are_back_by_themselves(
    machine: QemuHypervisor, network: Network
) -> None:
    router, process = network.router, machine.vms[network.router.id].process
    assert process is not None
    generation = router.status().generation
    router.agent.renew_certificate("router")
    router.agent.close()
    assert router.status()
    renewed = router.agent.certificate()
    router.stop()
    assert process.returncode == 0
    power_on(network)
    assert router.wait_healthy().generation == generation
    assert network.reachable()
    again = router.agent.certificate()
    assert renewed is not None
    assert again is not None
    assert again.serial_number == renewed.serial_number


def test_a_power_cut_during_an_apply_leaves_the_old_rules_or_the_new(machine: QemuHypervisor, network: Network) -> None:
    router, old = network.router, network.router.status().generation
    state = {**network.state, "nat": {**network.state["nat"]}, "firewall": {**network.state["firewall"]}}
    state["nat"]["forwards"] = [*state["nat"]["forwards"], *(forward(port) for port in range(10000, 12000))]
    state["firewall"]["ingress"] = [*state["firewall"]["ingress"], *(ingress(port) for port in range(10000, 12000))]
    document = router.document(state)

    def push() -> None:
        with suppress(AgentError):
            router.push_document(document, wait=1)

    pushing = threading.Thread(target=push)
    pushing.start()
    wait_for(lambda: router.lab.hypervisor.power(router.id) == "running" and applying(router), 60, "the apply to begin")
    machine.cut_power(router.id)
    pushing.join()
    power_on(network)
    health = router.wait_healthy(30)
    assert health.generation in (old, router.generation)
    assert network.reachable()
    new_rule = forward(11999)["ports"]["first"]
    assert network.internet.connects("203.0.113.2", new_rule, timeout=10) == (health.generation == router.generation)
    router.push(network.state)


def applying(router: Router) -> bool:
    """Whether the newest document is being applied, or has been."""
    status = router.status()
    return status.applying == router.generation or status.generation == router.generation


def trouble(router: Router, service: str) -> Health:
    def found() -> Health | None:
        health = router.health()
        return health if service in health.services and not health.services[service].healthy else None

    health = wait_for(found, 60, f"{service} to be unhealthy")
    assert health is not None
    return health


def test_a_full_state_disk_keeps_nothing_from_starting(machine: QemuHypervisor, network: Network) -> None:
    router, generation = network.router, network.router.status().generation
    router.run(["sh", "-c", "dd if=/dev/zero of=/var/lib/gatehouse/junk bs=64k; sync"], check=False, timeout=120)
    machine.cut_power(router.id)
    power_on(network)
    health = trouble(router, "state-disk")
    assert "full" in health.services["state-disk"].detail
    # as it was, and it takes orders
    wait_for(lambda: router.status().generation == generation, 60, "the rules of before")
    assert network.reachable()
    router.push(network.state)
    machine.cut_power(router.id)


def test_a_state_disk_that_fills_up_refuses_changes_and_loses_none(machine: QemuHypervisor, network: Network) -> None:
    router, generation = network.router, network.router.status().generation
    router.run(["sh", "-c", "dd if=/dev/zero of=/var/lib/gatehouse/junk bs=64k; sync"], check=False, timeout=120)
    assert "full" in trouble(router, "state-disk").services["state-disk"].detail
    # larger than the few blocks that a full file system may still find
    forwards = [*network.state["nat"]["forwards"], *(forward(port) for port in range(10000, 12000))]
    more = {**network.state["nat"], "forwards": forwards}
    refused = router.push_document(router.document({**network.state, "nat": more}))
    assert (refused.generation, refused.attempt and refused.attempt.outcome) == (generation, "refused")
    assert refused.attempt is not None
    assert "free some space" in refused.attempt.problems[0].message
    assert network.reachable()
    router.run(["rm", "/var/lib/gatehouse/junk"])
    router.push(network.state)
    router.wait_healthy()
    assert network.reachable()


def test_a_tampered_state_file_is_noticed_and_a_fresh_push_helps(machine: QemuHypervisor, network: Network) -> None:
    router = network.router
    router.run(["sed", "-i", "s/203.0.113.2/203.0.113.9/", "/var/lib/gatehouse/last-good"])
    router.run(["sync"])
    machine.cut_power(router.id)
    power_on(network)
    assert "damaged" in trouble(router, "engine").services["engine"].detail
    assert not network.reachable()
    router.push(network.state)
    router.wait_healthy()
    assert network.reachable()


def test_a_state_disk_with_garbage_is_not_trusted_and_not_needed(machine: QemuHypervisor, network: Network) -> None:
    router, vm = network.router, machine.vms[network.router.id]
    machine.cut_power(router.id)
    vm.state_disk.write_bytes(b"garbage!" * (1 << 23))
    power_on(network)
    health = trouble(router, "state-disk")
    assert "no file system" in health.services["state-disk"].detail
    assert health.generation == 0
    router.push(network.state)
    assert network.reachable()
    machine.cut_power(router.id)


def test_without_a_usable_identity_it_says_why_on_the_console(vm_lab: Lab) -> None:
    hypervisor = vm_lab.hypervisor
    assert isinstance(hypervisor, QemuHypervisor)
    reasons = ((without_identity(vm_lab), "no identity was given"), (with_role(vm_lab, "teapot"), "role"))
    for spec, _ in reasons:
        hypervisor.start_appliance(spec)
    for spec, reason in reasons:
        said = partial(console_says, hypervisor, spec.id, f"agent: .*{reason}")
        wait_for(said, 200, f"{spec.id} to say why", interval=0.5)
        assert "PRIVATE KEY" not in hypervisor.console_log(spec.id)
        hypervisor.destroy(spec.id)


def console_says(hypervisor: QemuHypervisor, instance_id: str, pattern: str) -> bool:
    return re.search(pattern, hypervisor.console_log(instance_id)) is not None
