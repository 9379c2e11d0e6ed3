"""The protocol between the engine and the services: what a service renders and what it does on a change."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from appliance.netfilter.ruleset import Ruleset
from appliance.schema.traffic import Traffic
from appliance.settings import Settings


@dataclass(frozen=True)
class File:
    """One file as it must be. ``text`` is str or bytes; ``owner`` is a user name."""

    text: str | bytes
    mode: int = 0o644
    owner: str = "root"


@dataclass(frozen=True)
class Unit:
    """One long-running process of a service. It runs in the foreground and logs to standard error.

    Least privilege: it gets only ``capabilities`` (names without ``CAP_``, lower case), never new ones, and can
    write only below the directories ``writable``, where the supervisor can enforce that. The supervisor creates these
    and gives them to ``user``.
    """

    name: str
    argv: tuple[str, ...]
    user: str = "root"
    capabilities: frozenset[str] = frozenset()
    writable: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Rendered:
    """Everything one service asks of the machine: what is not in it any more is removed."""

    files: Mapping[Path, File] = field(default_factory=dict)
    ruleset: Ruleset = field(default_factory=Ruleset)
    units: tuple[Unit, ...] = ()


@dataclass(frozen=True)
class Change:
    """One service's part of a transaction. To undo it, the engine applies ``reversed()``.

    ``before`` and ``after`` are whole role states (RouterState); ``before`` is None on an appliance that had none,
    ``after`` is None when the appliance is being emptied. ``force`` asks to bring about ``after`` whatever
    the machine looks like (start after a crash, repair of drift), not only the difference.
    """

    before: Any | None
    after: Any | None
    #: files that were written or removed (absolute paths)
    files: frozenset[Path] = frozenset()
    #: names of the service's units that the engine started just now: these need no reload
    started: frozenset[str] = frozenset()
    force: bool = False

    def reversed(self) -> Change:
        return Change(before=self.after, after=self.before, files=self.files, force=True)


class Netfilter(Protocol):
    """The appliance's table in the kernel (appliance/netfilter/kernel.py)."""

    def apply(self, before: Ruleset | None, after: Ruleset | None) -> None:
        """One atomic transaction; ``before`` None replaces whatever is there, ``after`` None removes the table."""

    def generation(self) -> int:
        """The kernel's ruleset generation id; it counts up on every change by anyone."""

    def counters(self, names: Collection[str]) -> dict[str, dict[str, tuple[int, int]]]:
        """Set name -> element key -> (packets, bytes), of ``counted`` sets."""

    def matches(self, ruleset: Ruleset) -> bool:
        """Whether the kernel has exactly ``ruleset``; slow."""


class Supervisor(Protocol):
    """Runs units: systemd in a VM, direct children in a namespace. It restarts a unit that ends by itself."""

    def start(self, unit: Unit) -> None:
        """Start ``unit`` (restart it if its definition changed); nothing to do when it runs already."""

    def stop(self, name: str) -> None: ...

    def restart(self, name: str) -> None: ...

    def signal(self, name: str, number: int) -> None:
        """Send a signal to the unit's main process, e.g. SIGHUP to reload."""

    def pid(self, name: str) -> int | None:
        """Process id of a running unit, else None."""

    def log_tail(self, name: str, lines: int = 20) -> str:
        """The newest lines that the unit printed, for error messages."""

    def names(self) -> frozenset[str]:
        """Units that were started and not stopped, also by an agent before this one."""


@dataclass(frozen=True)
class Host:
    """What a service works on, handed to every call that touches the machine."""

    settings: Settings
    supervisor: Supervisor
    netfilter: Netfilter


class Service(Protocol):
    """One service of a role. ``<role>/services/<name>/service.py`` holds one instance named ``SERVICE``."""

    #: the folder's name
    name: str
    #: names of the services whose change must be applied before this one's
    after: tuple[str, ...]
    #: fields of the role's state that ``render`` reads: when none of them changed, the service is left alone
    inputs: tuple[str, ...]

    def render(self, state: Any, settings: Settings) -> Rendered:
        """Pure: the same state gives the same result; no I/O. A service without work renders ``Rendered()``."""

    def check(self, rendered: Rendered, staged: Mapping[Path, Path], host: Host) -> None:
        """Ask the daemon's own checker. ``staged`` maps each final path to where its staged copy is now.

        Raises CheckFailedError. The ruleset needs no check: the kernel takes it as a whole or not at all.
        """

    def part(self, change: Change, host: Host) -> None:
        """Called before anything changes: say goodbye to clients that the change shuts out, while they are reached.

        It may take a second or two. What it raises is logged and stops nothing; a change that is rolled back leaves
        it to the clients to come again.
        """

    def apply(self, change: Change, host: Host) -> None:
        """Called in ``after`` order, when the files and ruleset of every service and its own units are in place.

        Reload what changed in the daemon, or bring kernel state about. Raises ApplyError; must be repeatable.
        """

    def drift(self, state: Any, host: Host) -> str | None:
        """Cheap look, called every ``watch_interval``: what no longer matches ``state``, or None.

        Files, ruleset and running units are watched by the engine; this is for other state (links, addresses).
        """

    def probe(self, state: Any, host: Host) -> None:
        """Use the service as a client would, within two seconds. Raises ProbeError with what went wrong."""

    def metrics(self, state: Any, host: Host) -> str:
        """Prometheus text lines (exposition format 0.0.4), or ""."""

    def report(self, host: Host) -> Any:
        """JSON-serialisable facts for the control plane (``Status.reports``), or None."""

    def traffic(self, state: Any, host: Host) -> Traffic | None:
        """What the service has metered, read and safe on disk now; None from all but one. Called by any thread."""

    def read_file(self, name: str, offset: int, host: Host) -> bytes:
        """A piece of a file that the service has for the control plane, from ``offset``; b"" at its end, and of none.

        Names have letters, digits and ``._:-`` only. Raises OSError; called by any thread.
        """

    def write_file(self, name: str, offset: int, data: bytes, host: Host) -> None:
        """The control plane brings a piece of a file; the first one makes it anew. Raises OSError."""

    def remove_file(self, name: str, host: Host) -> None:
        """The control plane has fetched a file; none of that name is fine too. Raises OSError."""


class BaseService:
    """Defaults, so that a service says only what is special about it."""

    name = ""
    after: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ()

    def render(self, state: Any, settings: Settings) -> Rendered:
        return Rendered()

    def check(self, rendered: Rendered, staged: Mapping[Path, Path], host: Host) -> None:
        return None

    def part(self, change: Change, host: Host) -> None:
        return None

    def apply(self, change: Change, host: Host) -> None:
        return None

    def drift(self, state: Any, host: Host) -> str | None:
        return None

    def probe(self, state: Any, host: Host) -> None:
        return None

    def metrics(self, state: Any, host: Host) -> str:
        return ""

    def report(self, host: Host) -> Any:
        return None

    def traffic(self, state: Any, host: Host) -> Traffic | None:
        return None

    def read_file(self, name: str, offset: int, host: Host) -> bytes:
        return b""

    def write_file(self, name: str, offset: int, data: bytes, host: Host) -> None:
        raise OSError(f"{self.name} takes no files")

    def remove_file(self, name: str, host: Host) -> None:
        return None
