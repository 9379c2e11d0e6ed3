"""The one place that runs commands: argument lists only, never a shell, always with a deadline."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence

from appliance.errors import CommandError


def run(
    argv: Sequence[str],
    *,
    stdin: str | None = None,
    timeout: float = 30.0,
    check: bool = True,
) -> subprocess.CompletedProcess[str]:
    """Run ``argv`` to its end and return the completed process with captured text output.

    ``timeout`` is in seconds. Raises CommandError on a non-zero status (unless ``check`` is false), on a missing
    program (code 127) and on a passed deadline (code 124).
    """
    command = list(argv)
    try:
        done = subprocess.run(
            command,
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            check=False,
        )
    except FileNotFoundError as error:
        raise CommandError(command, 127, f"{error}; install the package that provides it") from error
    except subprocess.TimeoutExpired as error:
        raise CommandError(command, 124, f"no end after {timeout:g} s") from error
    if check and done.returncode != 0:
        raise CommandError(command, done.returncode, done.stderr or done.stdout)
    return done
