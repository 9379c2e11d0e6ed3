"""Fixtures of all tests: which hypervisor runs the routers, and what virtual machines are booted from."""

from __future__ import annotations

import fcntl
import shutil
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

from tests import wait
from tests.vm.accelerator import hardware
from tests.vm.qemu import QemuHypervisor
from tests.vm.shared import SharedLab
from tools.image import build
from tools.image.__main__ import FOLDER

NETNS = Path(__file__).parent / "netns"
#: tests below one of these share machines, so one process runs them; the first that fits counts
GROUPS = ("tests/vm/libvirt", "tests/vm", "tests/netns")
#: an emulated machine is so many times slower than a namespace
PATIENCE = 2.0 if hardware() else 12.0


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--hypervisor",
        choices=("namespace", "vm"),
        default="namespace",
        help="what the routers of tests/netns are: namespaces, or virtual machines (marker any_hypervisor)",
    )


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("hypervisor") == "vm":
        wait.patience = PATIENCE / 2


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With virtual machines, of tests/netns those remain that are meant for any hypervisor."""
    if config.getoption("hypervisor") != "vm":
        return
    unfit = [item for item in items if NETNS in item.path.parents and not _fits(item)]
    if unfit:
        config.hook.pytest_deselected(items=unfit)
        items[:] = [item for item in items if item not in unfit]


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Hand all tests of a group to one process. (pytest-xdist's loadgroup finds no groups with pytest 9.2.)"""
    if config.getoption("hypervisor") != "vm":
        return None
    scheduler = LoadScopeScheduling(config, log)
    scheduler._split_scope = _group
    return scheduler


def _group(nodeid: str) -> str:
    return next((group for group in GROUPS if nodeid.startswith(group)), nodeid)


def _fits(item: pytest.Item) -> bool:
    wanted, unwanted = (item.get_closest_marker(name) for name in ("any_hypervisor", "namespaces_only"))
    return wanted is not None and unwanted is None


@pytest.fixture(scope="session")
def image() -> Path:
    """The image; built when what it is made of has changed since the last time, by one test process for all."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with (FOLDER / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return build.image(FOLDER)


@pytest.fixture(scope="session")
def shared_lab(image: Path) -> Iterator[SharedLab]:
    """A lab whose routers are one virtual machine after another's tests; see tests/vm/shared.py."""
    directory = Path(tempfile.mkdtemp(prefix="gatehouse-shared-"))
    built = SharedLab(directory, partial(QemuHypervisor, image=image), PATIENCE)
    try:
        yield built
    finally:
        built.close()
        shutil.rmtree(directory)
