"""A client of QEMU's monitor protocol (https://www.qemu.org/docs/master/interop/qmp-spec.html).

A monitor serves one client at a time, so a connection is for a few commands and not kept.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from controlplane.hypervisors.base import HypervisorError

#: seconds for an answer
_ANSWER = 30.0
#: a command's name and its arguments
Command = tuple[str, dict[str, Any]]


def listen(path: Path) -> socket.socket:
    """A listening socket at ``path``, for the monitor to take over; it answers once there is one."""
    listening = socket.socket(socket.AF_UNIX)
    try:
        with _short(path) as name:
            listening.bind(name)
        listening.listen(8)
    except BaseException:
        listening.close()
        raise
    return listening


def execute(path: Path, *commands: Command) -> list[Any]:
    """What the monitor at ``path`` answers to each command. HypervisorError for the first that fails."""
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(_ANSWER)
            with _short(path) as name:
                connection.connect(name)
            with connection.makefile("rwb") as stream:
                _answer(stream, "QMP")
                return [_ask(stream, *command) for command in (("qmp_capabilities", {}), *commands)][1:]
    except (OSError, ValueError) as error:
        raise HypervisorError(f"the storage daemon does not answer: {error}") from error


def _ask(stream: Any, command: str, arguments: dict[str, Any]) -> Any:
    stream.write(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
    stream.flush()
    return _answer(stream, "return")


def _answer(stream: Any, key: str) -> Any:
    while line := stream.readline():
        answer = json.loads(line)
        if "error" in answer:
            raise HypervisorError(str(answer["error"].get("desc")))
        # the others are events
        if key in answer:
            return answer[key]
    raise ConnectionResetError("it has ended")


@contextmanager
def _short(path: Path) -> Iterator[str]:
    """A name of ``path`` that fits into a socket's address, which has 108 bytes (unix(7))."""
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)
