"""What every part of the control plane that acts in the background works with."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from controlplane.configuration import Configuration
from controlplane.hypervisors.base import Hypervisor
from controlplane.pki import Authority
from controlplane.secrets import Secrets
from controlplane.store.database import Database
from controlplane.store.recordings import RecordingStore


@dataclass(frozen=True)
class Core:
    """One control plane: its tables, keys and hypervisor. Made once, passed explicitly."""

    database: Database
    configuration: Configuration
    secrets: Secrets = field(repr=False)
    authority: Authority = field(repr=False)
    hypervisor: Hypervisor
    recordings: RecordingStore
    #: the installation's UUID
    cloud: str
    #: set when rows that guests' ports depend on have changed
    policy_changed: threading.Event = field(default_factory=threading.Event, repr=False)
    #: set when there is new work for secondary storage
    storage_changed: threading.Event = field(default_factory=threading.Event, repr=False)


class Stopping(BaseException):
    """The control plane is stopping: leave the work as it is, the next start goes on with it.

    Not an Exception, so that nothing takes it for a failure of the work itself.
    """
