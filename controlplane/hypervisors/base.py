"""What the control plane asks of a hypervisor: segments (layer-2 networks), appliances and guests.

Every call is idempotent: asked for what is already so, it does nothing. Errors are HypervisorError.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from appliance.errors import GatehouseError
from controlplane.hypervisors.policy import Policy

if TYPE_CHECKING:
    from controlplane.hypervisors.volumes import Volumes

#: ``unknown``: its host does not answer, and it may run
Power = Literal["running", "stopped", "absent", "unknown"]


#: where an appliance has the directories that it is given, each by its name
SHARES = "/var/lib/gatehouse/stores"


class HypervisorError(GatehouseError):
    """The hypervisor could not do it; the message says what to do next."""


@dataclass(frozen=True)
class Wire:
    """How the hosts share a segment: over a physical interface of each, told apart by a VLAN id or a VXLAN's VNI."""

    interface: str
    isolation: Literal["vlan", "vxlan", "untagged"]
    tag: int = 0


@dataclass(frozen=True)
class Segment:
    """A layer-2 network: ``control``, ``public-<range id>`` or ``guest-<network id>``; without a wire, of one host."""

    name: str
    mtu: int = 1500
    wire: Wire | None = None


@dataclass(frozen=True)
class Nic:
    """One NIC of an instance, in the order the instance sees them (eth0, eth1, ...).

    A guest's lets out its own MAC and IPv4 ``addresses`` alone, unless it is ``trusted``: a test's host of the outside.
    A ``secured`` one passes only what the security groups of the policy allow, see ``apply_policy``.
    """

    mac: str
    segment: str
    #: Mbit/s in each direction, enforced on the host's side; 0 for no limit
    rate_mbit: int = 0
    addresses: tuple[str, ...] = ()
    trusted: bool = False
    secured: bool = False


@dataclass(frozen=True)
class Share:
    """A directory of the appliance's host, which it sees at ``SHARES/name`` and may write to."""

    name: str
    source: str


@dataclass(frozen=True)
class ApplianceSpec:
    """An appliance to run. ``identity`` holds the files of its identity directory, name -> content (secret)."""

    id: str
    hostname: str
    nics: tuple[Nic, ...]
    identity: Mapping[str, bytes] = field(repr=False)
    cpus: int = 1
    memory_mb: int = 256
    #: url of the host it goes to; "" is the hypervisor's first
    host: str = ""
    shares: tuple[Share, ...] = ()


@dataclass(frozen=True)
class GuestDisk:
    """A qcow2 file of a pool as a disk of a guest; the root disk is ``device`` 0. ``serial``: 20 characters at most."""

    path: Path
    device: int
    serial: str = ""

    @property
    def name(self) -> str:
        """What Linux calls it in a guest that has its disks in order."""
        return f"vd{chr(ord('a') + self.device)}"


@dataclass(frozen=True)
class GuestSpec:
    """A guest to run from a template known to the hypervisor."""

    id: str
    hostname: str
    nics: tuple[Nic, ...]
    template: str
    cpus: int = 1
    memory_mb: int = 512
    #: url of the host it goes to; "" is the hypervisor's first
    host: str = ""
    #: the root disk (device 0, see ``make_root``) and the others; where guests have none, ignored
    disks: tuple[GuestDisk, ...] = ()


@dataclass(frozen=True)
class Instance:
    """What the hypervisor knows of one appliance or guest."""

    id: str
    kind: Literal["appliance", "guest"]
    power: Power


@dataclass(frozen=True)
class ConsoleTarget:
    """A guest's screen: a VNC server (RFC 6143) as an appliance on the control network reaches it.

    ``security``: ``none``; ``vnc`` is VNC authentication, of whose ``password`` eight characters count; ``vencrypt`` is
    TLS with the server's certificate verified: for ``server_name`` (``host`` when None), signed by ``ca`` (PEM).
    """

    host: str
    port: int
    security: Literal["none", "vnc", "vencrypt"] = "none"
    password: str | None = field(default=None, repr=False)
    username: str | None = None
    ca: str | None = None
    server_name: str | None = None


@dataclass(frozen=True)
class HostFacts:
    """Capacity of one hypervisor host."""

    name: str
    hypervisor: str
    cpus: int
    memory_bytes: int
    #: how the driver reaches it, and what it is known by
    url: str = ""
    cpu_mhz: int = 0
    up: bool = True
    #: whether instances take their memory and processors from the host even when they do not use them; if not, they
    #: share, and capacity is no limit
    reserves: bool = False
    #: percent of the processors' time since it was asked before, bytes of memory; None when not known
    cpu_used: float | None = None
    memory_used: int | None = None


class Hypervisor(Protocol):
    """One kind of hypervisor. Calls may block for seconds: run them off the event loop."""

    #: as listHypervisors shows it
    name: str

    def open(self) -> None:
        """Make ready: adopt what runs, remove what a crash left half made."""

    def close(self) -> None:
        """Let go; everything goes on running."""

    def ensure_segment(self, segment: Segment) -> None: ...

    def remove_segment(self, name: str) -> None: ...

    def start_appliance(self, spec: ApplianceSpec) -> None:
        """Start it; returns when its agent process was started, not when it answers."""

    def start_guest(self, spec: GuestSpec) -> None: ...

    def images(self) -> Path:
        """A directory of this machine beside what guests run from, on the same file system, for images on their way."""

    def has_template(self, name: str) -> bool:
        """Whether guests can be made from the template ``name``."""

    def add_template(self, name: str, image: Path) -> None:
        """Have ``image``, a qcow2 file below ``images()``, as template ``name``; it is moved. Guests' disks lie over
        it, so it never changes."""

    def remove_template(self, name: str) -> None:
        """Remove the template's image, which no guest's disk lies over."""

    def stop(self, instance_id: str, *, force: bool = False) -> None:
        """Ask it to stop, then force after a grace period (at once with ``force``). State on disk stays."""

    def migrate(self, instance_id: str, host: str) -> None:
        """Move a running guest to the host of that url while it runs. On HypervisorError it is where it was."""

    def destroy(self, instance_id: str) -> None:
        """Stop it and remove everything that it had."""

    def attach_nic(self, instance_id: str, nic: Nic) -> None:
        """Give the instance the NIC. One that it has in another form is unplugged for it, see ``set_...``."""

    def detach_nic(self, instance_id: str, mac: str) -> None: ...

    def set_rate(self, instance_id: str, mac: str, rate_mbit: int) -> None:
        """Change the rate of a NIC that the instance has, without disturbing its connections."""

    def set_addresses(self, instance_id: str, mac: str, addresses: Sequence[str]) -> None:
        """Change what addresses a guest's NIC lets out, at once when it runs."""

    def apply_policy(self, policy: Policy) -> None:
        """Have every host enforce security groups on secured NICs, as a whole. Established connections that it does not
        allow any more end. The hypervisor remembers it."""

    def repair_filter(self) -> list[str]:
        """Set right what somebody else changed in a host's filter; what was wrong, for people. Cheap, call it often."""

    @property
    def volumes(self) -> Volumes:
        """The files of volumes and snapshots."""

    @property
    def pool(self) -> Path:
        """The storage pool that every zone has."""

    def make_root(self, path: Path, template: str, size: int) -> int:
        """Make a guest's root disk of a template unless it is there, with at least ``size`` bytes; how many it has.

        Where guests have no disks it does nothing, and gives 0.
        """

    def attach_disk(self, instance_id: str, disk: GuestDisk) -> None:
        """Plug a disk into a guest, if it runs. Starting it is told all its disks (``GuestSpec``)."""

    def detach_disk(self, instance_id: str, path: Path) -> None:
        """Unplug a disk from a guest, if it runs; returns when the guest has let it go."""

    def resize_disk(self, instance_id: str, path: Path, size: int) -> bool:
        """Tell a running guest that its disk has grown; whether it runs. If not, the file is the caller's to resize."""

    def copy_disk(self, instance_id: str, path: Path, target: Path, *, quiesce: bool) -> bool:
        """Copy the disk of a running guest as it is at this moment to a new file; whether it runs.

        ``quiesce``: its file systems are made consistent first, by the agent in the guest. A copy that was cut off
        leaves no ``target``.
        """

    def instances(self) -> list[Instance]: ...

    def power(self, instance_id: str) -> Power: ...

    def connect(self, address: str, port: int, timeout: float) -> socket.socket:
        """A TCP connection from the control network to an appliance's agent."""

    def console(self, instance_id: str) -> ConsoleTarget:
        """Where the screen of a running guest is. HypervisorError when it has none, or does not run."""

    def exec(self, instance_id: str, argv: Sequence[str]) -> int:
        """Run a command inside an instance on the caller's terminal; its exit status. Not on every hypervisor."""

    def console_log(self, instance_id: str) -> str:
        """The newest of what an instance printed on its console."""

    def add_host(self, url: str) -> HostFacts:
        """Use one more host from now on."""

    def remove_host(self, url: str) -> None:
        """Use a host no longer; nothing may be on it."""

    def facts(self) -> list[HostFacts]:
        """Of each host, the first one first."""
