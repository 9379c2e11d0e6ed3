"""The metadata server: ``python -m router.services.metadata.server CONFIG``; SIGHUP rereads CONFIG.

Beside what the web server reads, CONFIG has ``index`` (file) and ``data`` (folder) of content.py, and ``key`` (file for
the key of session tokens).
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from router.services.metadata.answers import answer
from router.services.metadata.content import Guests
from router.webserver.http import Request, Response
from router.webserver.server import serve


class MetadataApplication:
    """Answers guests by their source address (see webserver.server.Application)."""

    name = "metadata"
    most_requests = 1000

    def __init__(self) -> None:
        self._guests = Guests("", "")
        self._key_file = Path()
        self._key = b""

    def configure(self, config: Mapping[str, Any]) -> None:
        self._guests = Guests(config["index"], config["data"])
        self._key_file = Path(config["key"])

    def answer(self, request: Request, address: str) -> Response:
        return answer(request, self._guests.find(address), address, self._token_key)

    def refuse(self, status: int) -> Response:
        return Response(status)

    def _token_key(self) -> bytes:
        if not self._key:
            from router.services.metadata.tokens import load_key

            self._key = load_key(self._key_file)
        return self._key


if __name__ == "__main__":
    sys.exit(serve(MetadataApplication(), sys.argv[1:]))
