"""Fixtures for tests with routers that are virtual machines of the built image. Booting takes long: share them."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Generator, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import PATIENCE
from tests.netns.lab import Lab, Router
from tests.netns.ssvm.world import World, build
from tests.vm.documents import Network
from tests.vm.documents import build as build_network
from tests.vm.qemu import QemuHypervisor
from tests.vm.roadwarriors import RoadMachine
from tests.vm.shared import SharedLab


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.vm)


@pytest.fixture(scope="session")
def vm_lab(image: Path) -> Iterator[Lab]:
    """A lab whose routers are virtual machines; one for all tests."""
    directory = Path(tempfile.mkdtemp(prefix="gatehouse-vm-"))
    built = Lab(directory, partial(QemuHypervisor, image=image), PATIENCE)
    try:
        yield built
    finally:
        built.close()
        shutil.rmtree(directory)


@pytest.fixture(scope="session")
def network(vm_lab: Lab) -> Network:
    """A router with every section of its document in use, a guest and a host outside; tests leave it as it is."""
    return build_network(vm_lab)


@pytest.fixture
def router(network: Network) -> Router:
    return network.router


@pytest.fixture(scope="session")
def roads(network: Network) -> Iterator[RoadMachine]:
    """Devices outside of the router, in one machine of their own."""
    machine = RoadMachine(network.lab, network.outside)
    yield machine
    machine.close()


@pytest.fixture(scope="module")
def world(shared_lab: SharedLab) -> Iterator[World]:
    """A secondary-storage VM, and the machines that it talks to."""
    built = build(shared_lab)
    built.image("plain.qcow2")
    yield built
    shared_lab.clear()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[Any]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the consoles beside a failure."""
    report = yield
    used = getattr(item, "funcargs", {}).get("vm_lab")
    if report.failed and isinstance(used, Lab):
        report.sections.extend((f"log of {name}", text) for name, text in used.logs().items())
    return report
