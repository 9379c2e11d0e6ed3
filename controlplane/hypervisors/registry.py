"""Hypervisors by name, as ``gatehouse serve --hypervisor`` takes them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from appliance.errors import GatehouseError
from controlplane.hypervisors.base import Hypervisor


@dataclass(frozen=True)
class HypervisorOptions:
    """What ``gatehouse serve`` was told of the hypervisor; None is its default. The namespace hypervisor takes none."""

    libvirt_uri: str | None = None
    #: directory of what virtual machines run from; the default is beside the data directory
    storage: Path | None = None
    system_image: Path | None = None
    #: file with the public keys of those who may log in to appliances
    ssh_keys: Path | None = None


def _namespace(data: Path, _options: HypervisorOptions) -> Hypervisor:
    from controlplane.hypervisors.namespace.driver import NamespaceHypervisor

    return NamespaceHypervisor(data / "namespace", data=data)


def _libvirt(data: Path, options: HypervisorOptions) -> Hypervisor:
    try:
        from controlplane.hypervisors.libvirt.driver import DEFAULT_URI, LibvirtHypervisor
    except ModuleNotFoundError as error:
        if error.name not in ("libvirt", "libvirt_qemu"):
            raise
        raise GatehouseError(
            "libvirt's Python binding is not installed; run make setup, or pip install libvirt-python"
        ) from None
    return LibvirtHypervisor(
        data / "libvirt",
        options.storage or data.absolute().with_name(f"{data.absolute().name}-storage"),
        uri=options.libvirt_uri or DEFAULT_URI,
        system_image=options.system_image,
        ssh_keys=options.ssh_keys,
    )


def _enter_namespace(data: Path) -> None:
    from controlplane.hypervisors.namespace import rootless

    rootless.ensure(data)


#: name -> makes the driver for a data directory; drivers are imported only when used, for each needs other libraries
HYPERVISORS: dict[str, Callable[[Path, HypervisorOptions], Hypervisor]] = {"libvirt": _libvirt, "namespace": _namespace}


def make_hypervisor(name: str, data: Path, options: HypervisorOptions | None = None) -> Hypervisor:
    """The driver ``name`` with its state below ``data``. Raises GatehouseError naming the known ones."""
    if name not in HYPERVISORS:
        raise GatehouseError(f"there is no hypervisor {name!r}; known are {', '.join(sorted(HYPERVISORS))}")
    return HYPERVISORS[name](data, options or HypervisorOptions())


#: hypervisors that a program must first go somewhere for: name -> goes there, or returns when it is there already
_ENTRANCES: dict[str, Callable[[Path], None]] = {"namespace": _enter_namespace}


def enter_hypervisor(name: str, data: Path) -> None:
    """Call this first in a program that makes a driver: it may replace the process by one that runs it again.

    As an ordinary user, the namespace hypervisor works inside a user namespace of the data directory.
    """
    if name in _ENTRANCES:
        _ENTRANCES[name](data)
