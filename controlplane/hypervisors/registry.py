"""Hypervisors by name, as ``gatehouse serve --hypervisor`` takes them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from appliance.errors import GatehouseError
from controlplane.hypervisors.base import Hypervisor


def _namespace(data: Path) -> Hypervisor:
    from controlplane.hypervisors.namespace.driver import NamespaceHypervisor

    return NamespaceHypervisor(data / "namespace", data=data)


def _enter_namespace(data: Path) -> None:
    from controlplane.hypervisors.namespace import rootless

    rootless.ensure(data)


#: name -> makes the driver for a data directory; drivers are imported only when used, for each needs other libraries
HYPERVISORS: dict[str, Callable[[Path], Hypervisor]] = {"namespace": _namespace}


def make_hypervisor(name: str, data: Path) -> Hypervisor:
    """The driver ``name`` with its state below ``data``. Raises GatehouseError naming the known ones."""
    if name not in HYPERVISORS:
        raise GatehouseError(f"there is no hypervisor {name!r}; known are {', '.join(sorted(HYPERVISORS))}")
    return HYPERVISORS[name](data)


#: hypervisors that a program must first go somewhere for: name -> goes there, or returns when it is there already
_ENTRANCES: dict[str, Callable[[Path], None]] = {"namespace": _enter_namespace}


def enter_hypervisor(name: str, data: Path) -> None:
    """Call this first in a program that makes a driver: it may replace the process by one that runs it again.

    As an ordinary user, the namespace hypervisor works inside a user namespace of the data directory.
    """
    if name in _ENTRANCES:
        _ENTRANCES[name](data)
