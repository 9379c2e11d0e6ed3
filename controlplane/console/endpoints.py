"""Where a person opens a console (guide: chapter 16.3)."""

from __future__ import annotations

from dataclasses import dataclass, field

PORT = 443
PAGE, SOCKET = "console/", "websockify"


@dataclass(frozen=True)
class Endpoint:
    """Where a session is opened. The token is a secret, and so is the URL with it."""

    host: str
    token: str = field(repr=False)
    port: int = PORT

    @property
    def url(self) -> str:
        """The page."""
        port = "" if self.port == PORT else f":{self.port}"
        return f"https://{self.host}{port}/{PAGE}?token={self.token}"


@dataclass(frozen=True)
class Starting:
    """A session that has to wait for a console proxy to start. The token is a secret; it finds the session again."""

    token: str = field(repr=False)
