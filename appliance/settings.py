"""Where an appliance keeps its files and who it is. One frozen object, made once and passed explicitly."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class Settings:
    """Paths of one appliance. The defaults are those of an appliance that has its own mount namespace or machine."""

    #: rendered configuration of the services; rewritten by transactions
    config_dir: Path = Path("/etc/gatehouse")
    #: sockets, pid files and what may be lost on a reboot
    run_dir: Path = Path("/run/gatehouse")
    #: last-good document, undelivered passwords, counters; survives a reboot
    state_dir: Path = Path("/var/lib/gatehouse")
    #: identity.json, ca.pem, cert.pem, key.pem, given by the hypervisor at boot (root only)
    identity_dir: Path = Path("/etc/gatehouse-identity")
    #: output of the daemons, one file a unit
    log_dir: Path = Path("/var/log/gatehouse")
    #: seconds between two looks for drift
    watch_interval: float = 1.0
    #: seconds between two probes of every service
    probe_interval: float = 5.0
    #: what runs the daemons: children of the agent, or systemd where it is the first process
    supervisor: Literal["direct", "systemd"] = "direct"
