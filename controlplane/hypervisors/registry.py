"""Hypervisors by name, as ``gatehouse serve --hypervisor`` takes them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from appliance.errors import GatehouseError
from controlplane.hypervisors.base import Hypervisor


def _namespace(data: Path) -> Hypervisor:
    from controlplane.hypervisors.namespace.driver import NamespaceHypervisor

    return NamespaceHypervisor(data / "namespace", data=data)


#: name -> makes the driver for a data directory; drivers are imported only when used, for each needs other libraries
HYPERVISORS: dict[str, Callable[[Path], Hypervisor]] = {"namespace": _namespace}


def make_hypervisor(name: str, data: Path) -> Hypervisor:
    """The driver ``name`` with its state below ``data``. Raises GatehouseError naming the known ones."""
    if name not in HYPERVISORS:
        raise GatehouseError(f"there is no hypervisor {name!r}; known are {', '.join(sorted(HYPERVISORS))}")
    return HYPERVISORS[name](data)
