"""How the agent asks a unit what it does: the unit tells all of it as JSON to whoever connects to its own socket.

A unit that has files for the control plane is asked about them too: a line of JSON with octets behind it.
"""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)

#: seconds for the status, and for a question about a file
STATUS_SECONDS, QUESTION_SECONDS = 2.0, 10.0


def ask(path: Path) -> dict[str, Any]:
    """What the unit that listens on ``path`` tells. Raises OSError and ValueError."""
    status: dict[str, Any] = json.loads(_exchange(path, b"", STATUS_SECONDS))
    return status


def have_done(path: Path, question: dict[str, Any], data: bytes = b"") -> bytes:
    """What the unit that listens on ``path`` answers to ``question``. Raises OSError when it could not."""
    answered = _exchange(path, json.dumps(question).encode() + b"\n" + data, QUESTION_SECONDS)
    if not answered:
        raise OSError(f"{path.stem} could not do it: {question}")
    return answered[1:]


def _exchange(path: Path, question: bytes, seconds: float) -> bytes:
    with socket.socket(socket.AF_UNIX) as asking:
        asking.settimeout(seconds)
        asking.connect(str(path))
        asking.sendall(question)
        asking.shutdown(socket.SHUT_WR)
        text = b""
        while part := asking.recv(262_144):
            text += part
    return text


async def answer(
    path: Path,
    status: Callable[[], Awaitable[dict[str, Any]]],
    do: Callable[[dict[str, Any], bytes], bytes] | None = None,
) -> asyncio.Server:
    """Tell ``status()`` to whoever connects to ``path`` and asks nothing; ``do`` answers questions, in a thread."""

    async def tell(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(QUESTION_SECONDS):
                if (line := await reader.readline()) and do is not None:
                    # an octet says that it was done
                    writer.write(b"+" + await asyncio.to_thread(do, json.loads(line), await reader.read()))
                else:
                    writer.write(json.dumps(await status()).encode())
                await writer.drain()
        except (OSError, ValueError, KeyError, TimeoutError) as error:
            log.warning("a question of the agent: %s", error)
        finally:
            writer.close()

    with suppress(FileNotFoundError):
        path.unlink()
    return await asyncio.start_unix_server(tell, path)
