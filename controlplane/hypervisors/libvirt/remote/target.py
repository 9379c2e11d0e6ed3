"""Where a libvirt URI goes: to a daemon of this machine, or over SSH to one elsewhere (https://libvirt.org/uri.html)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from controlplane.hypervisors.base import HypervisorError

_HOST = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]*|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*")
_USER = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
_SSH_PORT = 22


@dataclass(frozen=True)
class Target:
    """An SSH server, and the libvirt daemon's socket on its machine (None where it usually is)."""

    host: str
    port: int = _SSH_PORT
    user: str = "root"
    socket: Path | None = None


def daemon_socket(uri: str) -> Path | None:
    """The socket that the URI names."""
    named = parse_qs(urlsplit(uri).query).get("socket")
    return Path(named[0]) if named else None


def parse_target(uri: str) -> Target | None:
    """Where ``uri`` goes, None for this machine. Raises HypervisorError for what cannot be used."""
    how = "name a host as qemu+ssh://root@host/system, with :port behind the host if it is not 22"
    try:
        parts = urlsplit(uri)
        port = parts.port or _SSH_PORT
        options = parse_qs(parts.query, strict_parsing=True) if parts.query else {}
    except ValueError as error:
        raise HypervisorError(f"{uri!r} is no libvirt URI ({error}); {how}") from error
    if not parts.hostname:
        return None
    if parts.scheme != "qemu+ssh":
        raise HypervisorError(
            f"{uri} does not go over SSH, which bridges and filters of a host on another machine need; {how}"
        )
    if parts.path != "/system" or parts.password or not options.keys() <= {"socket"}:
        raise HypervisorError(
            f"{uri}: of a host on another machine there is /system and the option socket; the key is the control "
            f"plane's own; {how}"
        )
    user = parts.username or "root"
    if not _HOST.fullmatch(parts.hostname) or not _USER.fullmatch(user):
        raise HypervisorError(f"{uri}: that is no name of a host and user; {how}")
    return Target(parts.hostname, port, user, daemon_socket(uri))
