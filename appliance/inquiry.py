"""How the agent asks a unit what it does: the unit tells all of it as JSON to whoever connects to its own socket."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any


def ask(path: Path) -> dict[str, Any]:
    """What the unit that listens on ``path`` tells. Raises OSError and ValueError."""
    with socket.socket(socket.AF_UNIX) as asking:
        asking.settimeout(2)
        asking.connect(str(path))
        text = b""
        while part := asking.recv(65536):
            text += part
    status: dict[str, Any] = json.loads(text)
    return status


async def answer(path: Path, status: Callable[[], Awaitable[dict[str, Any]]]) -> asyncio.Server:
    """Tell ``status()`` to everybody who connects to ``path``."""

    async def tell(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            writer.write(json.dumps(await status()).encode())
            await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()

    with suppress(FileNotFoundError):
        path.unlink()
    return await asyncio.start_unix_server(tell, path)
