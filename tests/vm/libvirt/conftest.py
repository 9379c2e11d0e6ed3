"""Fixtures for tests with virtual machines through a libvirt daemon of the tests' own."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.conftest import PATIENCE
from tests.netns.lab import Lab
from tests.vm.libvirt.mixed import MixedHypervisor
from tests.vm.libvirt.site import Site
from tools.guestimage import build

REPOSITORY = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="session")
def guest_image() -> Path:
    """The builtin guest's image; built when what it is made of has changed."""
    return build.image_of("builtin", build.images())


@pytest.fixture(scope="session")
def acceleration() -> Path:
    """A file for whether KVM works, so that it is tried once a boot of the machine."""
    return REPOSITORY / "build/acceleration.json"


@pytest.fixture(scope="module")
def site(guest_image: Path, acceleration: Path) -> Iterator[Site]:
    """A libvirt daemon and a driver for it, with guests that are namespaces on the same bridges."""
    directory = Path(tempfile.mkdtemp(prefix="gatehouse-libvirt-"))
    made = Site(directory, guest_image, acceleration)
    try:
        made.open()
        yield made
    finally:
        made.close()
        made.cheap.purge()
        shutil.rmtree(directory)


@pytest.fixture(scope="session")
def lab(image: Path, guest_image: Path, acceleration: Path) -> Iterator[Lab]:
    """A lab whose routers are virtual machines through libvirt; one for all tests."""
    directory = Path(tempfile.mkdtemp(prefix="gatehouse-libvirt-lab-"))
    make = partial(MixedHypervisor, image=image, guest_image=guest_image, acceleration=acceleration)
    built = Lab(directory, make, PATIENCE)
    try:
        yield built
    finally:
        built.close()
        shutil.rmtree(directory)
