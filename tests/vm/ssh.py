"""Commands in an appliance that is a virtual machine, by SSH with an administrator's key."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from appliance.run import run

PORT = 3922


def new_key(key: Path) -> bytes:
    """Make the private key ``key``; the line of authorized_keys for it."""
    run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)])
    return key.with_suffix(".pub").read_bytes()


def command(key: Path, address: str, argv: Sequence[str]) -> list[str]:
    """The words that run ``argv`` at ``address``, in the network namespace that reaches it. Connections are shared."""
    options = {
        "IdentityFile": str(key),
        "StrictHostKeyChecking": "no",
        "UserKnownHostsFile": "/dev/null",
        "LogLevel": "ERROR",
        "ConnectTimeout": "20",
        "ControlMaster": "auto",
        "ControlPath": f"{key}.ssh",
        "ControlPersist": "60",
    }
    given = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
    return ["ssh", "-F", "none", "-p", str(PORT), *given, f"root@{address}", shlex.join(argv)]
