"""A machine's libvirt daemon: where its socket is, and the network namespace that it makes its taps in."""

from __future__ import annotations

import os
import socket
import struct
from pathlib import Path

from controlplane.hypervisors.base import HypervisorError

#: libvirt's daemon for QEMU by itself, and the one for everything (https://libvirt.org/daemons.html)
SOCKETS = (Path("/run/libvirt/virtqemud-sock"), Path("/run/libvirt/libvirt-sock"))


def find_socket(named: Path | None = None) -> Path:
    """The socket of this machine's daemon, ``named`` if given. Raises HypervisorError when there is none."""
    if named is not None:
        return named
    for path in SOCKETS:
        if path.exists():
            return path
    known = " or ".join(map(str, SOCKETS))
    raise HypervisorError(f"there is no libvirt daemon for QEMU on this machine ({known}); start one")


def open_namespace(named: Path | None = None) -> int:
    """A descriptor of the network namespace of this machine's daemon. Raises HypervisorError."""
    path = find_socket(named)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as daemon:
        try:
            daemon.connect(str(path))
        except OSError as error:
            raise HypervisorError(f"libvirt at {path} does not answer ({error}); start libvirtd") from error
        # unix(7), SO_PEERCRED
        pid, *_ = struct.unpack("3i", daemon.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))
        return os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
