from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from controlplane.hypervisors.namespace.driver import NamespaceHypervisor


@pytest.fixture
def directory() -> Iterator[Path]:
    """A hypervisor's directory; whatever is left in it is removed."""
    path = Path(tempfile.mkdtemp(prefix="gatehouse-hypervisor-"))
    yield path
    rest = NamespaceHypervisor(path)
    rest.open()
    rest.purge()
    shutil.rmtree(path)


@pytest.fixture
def hypervisor(directory: Path) -> Iterator[NamespaceHypervisor]:
    opened = NamespaceHypervisor(directory)
    opened.open()
    yield opened
    opened.close()
