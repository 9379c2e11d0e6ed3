"""What guests get who ask for their password, and confirm it.

The request is in the header ``DomU_Request`` of a GET, whatever the path: ``send_my_password`` or ``saved_password``.
A guest is known by its source address.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from router.services.password.vault import Vault
from router.webserver.http import Request, Response

#: requests a guest may send at once, and then in a second
BURST, RATE = 20, 2.0
#: guests whose requests are counted; past that the ones that are within their limits anyway are forgotten
MOST_COUNTED = 4096

#: proxies and some libraries know no underscore in names
FIELDS = ("domu_request", "domu-request")


class Limiter:
    """A token bucket for each address."""

    def __init__(self) -> None:
        #: address -> (tokens, when they were counted)
        self._buckets: dict[str, tuple[float, float]] = {}

    def allow(self, address: str, now: float | None = None) -> bool:
        """Whether ``address`` may send a request at ``now`` (monotonic seconds), which it then has."""
        now = time.monotonic() if now is None else now
        if len(self._buckets) > MOST_COUNTED:
            self._buckets = {key: value for key, value in self._buckets.items() if now - value[1] < BURST / RATE}
        tokens, counted = self._buckets.get(address, (float(BURST), now))
        tokens = min(BURST, tokens + (now - counted) * RATE)
        allowed = tokens >= 1
        self._buckets[address] = (tokens - 1 if allowed else tokens, now)
        return allowed


class PasswordApplication:
    """The passwords of the vault, each for its guest (see webserver.server.Application)."""

    name = "password"
    #: what a guest holds open serves nobody
    most_requests = 1

    def __init__(self) -> None:
        self._vault = Vault(Path())
        self._limiter = Limiter()
        #: address -> id of the password that it was sent last
        self._sent: dict[str, str] = {}

    def configure(self, config: Mapping[str, Any]) -> None:
        self._vault = Vault(Path(config["vault"]))
        self._vault.create()

    def answer(self, request: Request, address: str) -> Response:
        if request.method != "GET":
            return self.refuse(405)
        wish = next((request.fields[name] for name in FIELDS if name in request.fields), "")
        if wish not in ("send_my_password", "saved_password"):
            return self.refuse(400)
        if not self._limiter.allow(address):
            return self.refuse(429)
        secret = self._vault.read(address)
        if secret is None:
            return _plain("saved_password")
        if wish == "send_my_password":
            self._sent[address] = secret.id
            return _plain(secret.password)
        # a confirmation is of what was sent: a newer password, set meanwhile, stays
        if self._sent.pop(address, secret.id) == secret.id:
            self._vault.confirm(address, secret.id)
        return _plain("saved_password")

    def refuse(self, status: int) -> Response:
        # old scripts read the body, not the status
        return _plain("bad_request", status)


def _plain(text: str, status: int = 200) -> Response:
    return Response(status, text.encode(), "text/plain; charset=utf-8", "Cache-Control: no-store\r\n")
