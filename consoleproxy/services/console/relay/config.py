"""The relay's configuration, as render.py writes it."""

from __future__ import annotations

import hashlib
import json
import ssl
from dataclasses import dataclass
from pathlib import Path

from appliance.webfront import server_context
from consoleproxy.services.console.model import Console


class ConfigError(Exception):
    """The configuration cannot be used."""


@dataclass(frozen=True)
class Config:
    """``context`` None: HTTP without TLS. ``digest``: SHA-256 of the file, by which the agent knows what is served."""

    digest: str
    listen: tuple[str, ...]
    origins: frozenset[str]
    socket: Path
    state: Path
    console: Console
    context: ssl.SSLContext | None


def load(path: Path) -> Config:
    """Read everything. Raises ConfigError."""
    try:
        text = path.read_bytes()
        raw = json.loads(text)
        console = Console.model_validate(raw["console"])
        return Config(
            digest=hashlib.sha256(text).hexdigest(),
            listen=tuple(raw["listen"]),
            origins=frozenset((*raw["own_origins"], *console.origins)),
            socket=Path(raw["socket"]),
            state=Path(raw["state"]),
            console=console,
            context=_context(Path(raw["certificate_file"]), raw["certificate_digest"]),
        )
    except (OSError, ValueError, KeyError, ssl.SSLError) as error:
        raise ConfigError(f"{path.name} cannot be used: {error}") from error


def _context(path: Path, digest: str) -> ssl.SSLContext | None:
    if not digest:
        return None
    if hashlib.sha256(path.read_bytes()).hexdigest() != digest:
        raise ConfigError(f"{path.name} is not the one that the configuration goes with")
    context = server_context()
    context.load_cert_chain(path)
    return context
