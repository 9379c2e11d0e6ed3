"""File systems that an appliance mounts, where its units see them: by systemd where that is the first process.

The agent may not mount anything itself there (its unit's filter of system calls), and what it did would be seen by
itself alone. Without systemd agent and units are in one mount namespace.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from appliance.engine.systemd import UNITS
from appliance.errors import ApplyError, CommandError
from appliance.run import run
from appliance.settings import Settings

#: seconds that mounting may take: a server that does not answer is tried again later
PATIENCE = 10
#: what the name of a unit has as it is
_PLAIN = re.compile(rb"[A-Za-z0-9:_.]")


@dataclass(frozen=True)
class Mount:
    """``what`` of file system ``type`` at the directory ``where``; ``options`` as mount(8) takes them."""

    what: str
    where: Path
    type: str
    options: str


def mounted(below: Path) -> frozenset[Path]:
    """Directories directly below ``below`` where something is mounted (proc_pid_mountinfo(5))."""
    points = (Path(_unescaped(line.split(" ")[4])) for line in Path("/proc/self/mountinfo").read_text().splitlines())
    return frozenset(point for point in points if point.parent == below)


def _unescaped(word: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), word)


def mount(wanted: Mount, settings: Settings) -> None:
    """Mount it; the directory is made. Raises ApplyError."""
    wanted.where.mkdir(mode=0o755, parents=True, exist_ok=True)
    try:
        if settings.supervisor == "systemd":
            path = UNITS / unit_name(wanted.where)
            path.write_text(definition(wanted))
            run(["systemctl", "--quiet", "daemon-reload"])
            run(["systemctl", "--quiet", "--no-ask-password", "restart", path.name], timeout=2 * PATIENCE)
        else:
            argv = ["mount", "-t", wanted.type, "-o", wanted.options, wanted.what, str(wanted.where)]
            run(argv, timeout=PATIENCE)
    except CommandError as error:
        raise ApplyError(f"{wanted.what} cannot be mounted: {error.stderr.strip()}") from error


def unmount(where: Path, settings: Settings) -> None:
    """Unmount what is there, used or not; fine when there is nothing. Raises ApplyError."""
    try:
        # lazily: a server that does not answer would be waited for, and files may be open
        if settings.supervisor == "direct":
            run(["umount", "--lazy", str(where)], check=False, timeout=PATIENCE)
        elif (path := UNITS / unit_name(where)).exists():
            run(["systemctl", "--quiet", "--no-ask-password", "stop", path.name], timeout=3 * PATIENCE)
            path.unlink()
    except CommandError as error:
        raise ApplyError(f"{where} cannot be unmounted: {error.stderr.strip()}") from error


def unit_name(where: Path) -> str:
    """The name that systemd wants the unit of a mount point to have (systemd.unit(5), "String Escaping")."""
    letters = (bytes([octet]) for octet in str(where).strip("/").encode())
    escaped = "".join(
        "-" if letter == b"/" else letter.decode() if _PLAIN.fullmatch(letter) else f"\\x{letter[0]:02x}"
        for letter in letters
    )
    return f"{escaped}.mount"


def definition(wanted: Mount) -> str:
    """The unit file (systemd.mount(5)). Pure."""
    lines = [
        "[Unit]",
        f"Description=Gatehouse {wanted.what}",
        "DefaultDependencies=no",
        "Conflicts=umount.target shutdown.target",
        "Before=umount.target shutdown.target",
        "[Mount]",
        f"What={wanted.what}",
        f"Where={wanted.where}",
        f"Type={wanted.type}",
        f"Options={wanted.options}",
        f"TimeoutSec={PATIENCE}s",
        "LazyUnmount=yes",
    ]
    return "\n".join(lines) + "\n"
