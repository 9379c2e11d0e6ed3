"""What a role is made of: its document and its services, found in the role's package."""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
from collections.abc import Iterable
from graphlib import CycleError, TopologicalSorter
from typing import Any

from appliance.engine.service import Service
from appliance.schema.envelope import Document


def document_type(role: str) -> type[Document[Any]]:
    """``DOCUMENT`` of ``<role>/document.py``: the type that documents of this role are validated with."""
    found: type[Document[Any]] = importlib.import_module(f"{role}.document").DOCUMENT
    return found


def services(role: str) -> tuple[Service, ...]:
    """``SERVICE`` of every ``<role>/services/<name>/service.py``, each after the ones it names in ``after``."""
    package = importlib.import_module(f"{role}.services")
    names = [entry.name for entry in pkgutil.iter_modules(package.__path__) if entry.ispkg]
    found: list[Service] = []
    for name in sorted(names):
        module = f"{role}.services.{name}.service"
        if importlib.util.find_spec(module) is not None:
            found.append(importlib.import_module(module).SERVICE)
    return ordered(found)


def ordered(found: Iterable[Service]) -> tuple[Service, ...]:
    """Sort by ``after``; the order is the same on every start. Raises ValueError on a cycle.

    As with systemd's ``After=``, a name that does not exist orders nothing.
    """
    by_name = {service.name: service for service in found}
    sorter = TopologicalSorter({name: sorted(by_name.keys() & set(by_name[name].after)) for name in sorted(by_name)})
    try:
        return tuple(by_name[name] for name in sorter.static_order())
    except CycleError as error:
        raise ValueError(f"services come after each other: {' -> '.join(error.args[1])}") from error
