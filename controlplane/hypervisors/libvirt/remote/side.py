"""A HostSide on another machine, with the methods of one on this."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import NoneType
from typing import Any, cast, get_type_hints

from controlplane.hypervisors.libvirt.hostside import HostSide, Place
from controlplane.hypervisors.libvirt.remote.link import Link

#: on the host, for each control plane: notes that live as long as the bridges they are about
_RUN = "/run/gatehouse-{}"


def remote_side(link: Link, owner: str, control_address: str, socket: Path | None) -> HostSide:
    """The HostSide of data directory ``owner`` at the other end of ``link``."""
    run = Path(_RUN.format(owner))
    return cast(HostSide, _RemoteSide(link, Place(run, run / "identities", control_address, socket)))


class _RemoteSide:
    def __init__(self, link: Link, place: Place) -> None:
        self._link, self._place = link, place
        self._generation = 0

    @property
    def opened(self) -> bool:
        """Whether the program that was told to begin is still there."""
        return self._link.alive and self._generation == self._link.generation

    def open(self) -> None:
        self._link.connect()
        self._link.call(NoneType, "begin", self._place)
        self._generation = self._link.generation

    def close(self) -> None:
        self._link.close()

    def __getattr__(self, name: str) -> Callable[..., Any]:
        kind = get_type_hints(getattr(HostSide, name))["return"]
        return lambda *arguments: self._link.call(kind, name, *arguments)
