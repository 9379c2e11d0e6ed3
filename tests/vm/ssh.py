"""Commands in an appliance that is a virtual machine, by SSH with an administrator's key."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from appliance.run import run

PORT = 3922
#: seconds after which a connection whose machine says nothing is given up
SILENCE = 10


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
        "ControlPath": str(_shared(key)),
        "ControlPersist": "60",
        "ServerAliveInterval": str(SILENCE // 2),
        "ServerAliveCountMax": "2",
    }
    given = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
    return ["ssh", "-F", "none", "-p", str(PORT), *given, f"root@{address}", shlex.join(argv)]


def forget(key: Path) -> None:
    """Have the next command connect anew: the machine lost its power, and the shared connection does not know."""
    _shared(key).unlink(missing_ok=True)


def _shared(key: Path) -> Path:
    """The socket of the connection that commands share."""
    return key.with_name(f"{key.name}.ssh")
