"""What instances need of their host besides libvirt: bridges, the ports' filter and rates, files of identities.

It works on the machine that it runs on. For a host elsewhere the same code runs there, see ``remote``: arguments and
results must be what ``remote.codec`` knows, and errors that matter HypervisorErrors.
"""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from controlplane.hypervisors.base import HypervisorError, Nic, Segment
from controlplane.hypervisors.bridges import Bridges, port_name
from controlplane.hypervisors.libvirt import daemon
from controlplane.hypervisors.policy import Policy
from controlplane.hypervisors.portfilter.model import Port
from controlplane.hypervisors.portfilter.portfilter import PortFilter
from controlplane.hypervisors.records import MARK, remove_tree

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True)
class Place:
    """Where things are on the host. ``records`` is for notes, ``identities`` for what QEMU's user may read.

    ``socket`` is the libvirt daemon's, None where it usually is.
    """

    records: Path
    identities: Path
    control_address: str
    socket: Path | None = None


class HostSide:
    """One host for one control plane. Safe to call from any thread."""

    def __init__(self, place: Place) -> None:
        self._records, self._identities = place.records, place.identities
        self._bridges = Bridges(
            place.records / "segments.json", lambda: daemon.open_namespace(place.socket), place.control_address
        )
        self._filter = PortFilter(self._bridges.call, place.records / "policy.json", own=False)
        self.opened = False

    def open(self) -> None:
        """Take over what is there. Raises HypervisorError."""
        for path in (self._records, self._identities):
            path.mkdir(parents=True, exist_ok=True)
            # QEMU's user goes through to what is its own
            path.chmod(0o711)
        for left in self._identities.iterdir():
            remove_tree(left)
        self._bridges.open()
        self.opened = True

    def close(self) -> None:
        """Leave everything as it is."""
        self._bridges.close()
        self.opened = False

    def forget(self) -> None:
        """Remove the bridges, the filter and the notes: nothing of the control plane is left on the host."""
        self._bridges.remove_all()
        self._filter.forget()
        for path in (self._identities, self._records):
            # not what has something else in it
            with suppress(OSError):
                path.rmdir()

    def boot_id(self) -> str:
        """What names this run of the host's kernel."""
        return _BOOT_ID.read_text().strip()

    def storage_mark(self, directory: Path) -> str:
        """Whose the storage at ``directory`` is; "" when nothing there says so."""
        try:
            return (directory / MARK).read_text()
        except OSError:
            return ""

    # --- networks -------------------------------------------------------------------------------------------

    def ensure_segment(self, segment: Segment) -> None:
        """Have the segment's bridge, wired as asked for. Raises HypervisorError."""
        self._bridges.ensure_segment(segment)

    def remove_segment(self, name: str) -> None:
        self._bridges.remove_segment(name)

    def segments(self) -> list[str]:
        """Names of the segments that have a bridge here."""
        return list(self._bridges.segments())

    def set_rates(self, nics: Sequence[tuple[str, Nic]]) -> None:
        """Give the ports of NICs (instance id, NIC) their rates; what is right already is left alone."""
        self._bridges.set_rates(list(nics))

    def socket(self) -> socket.socket:
        """A TCP socket of the namespace of the bridges; it stays one in whatever thread it is used."""
        return self._bridges.socket()

    # --- the ports' filter ----------------------------------------------------------------------------------

    def open_filter(self, ports: Mapping[str, Port]) -> None:
        """Enforce exactly ``ports`` (name -> port), with the policy that was applied last."""
        self._filter.open(ports)

    def set_port(self, instance_id: str, port: Port) -> None:
        """Enforce a port, new or changed; before its interface is there."""
        self._filter.set(port_name(instance_id, port.mac), port)

    def remove_port(self, instance_id: str, mac: str) -> None:
        """Remove what a NIC had on the host's network; its tap went with the domain."""
        name = port_name(instance_id, mac)
        self._bridges.delete_port(name)
        self._filter.remove(name)

    def apply_policy(self, policy: Policy) -> None:
        self._filter.apply(policy)

    def repair_filter(self) -> list[str]:
        """Set right what somebody else changed in the filter; what was wrong, for people."""
        return self._filter.repair()

    # --- identities -----------------------------------------------------------------------------------------

    def write_identity(self, instance_id: str, files: Mapping[str, bytes], owner: tuple[int, int]) -> dict[str, Path]:
        """An appliance's secret files, for ``owner`` (user, group) alone: QEMU's user, who reads them at its start."""
        if Path(instance_id).name != instance_id or any(Path(name).name != name for name in files):
            raise HypervisorError(f"{instance_id!r} or a name in its identity is no name of a file")
        self.remove_identity(instance_id)
        folder = self._identities / instance_id
        folder.mkdir(mode=0o700)
        written = {}
        for name, content in files.items():
            path = folder / name
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o400)
            with os.fdopen(handle, "wb") as file:
                file.write(content)
            os.chown(path, *owner)
            written[name] = path
        os.chown(folder, *owner)
        return written

    def remove_identity(self, instance_id: str) -> None:
        shutil.rmtree(self._identities / instance_id, ignore_errors=True)
