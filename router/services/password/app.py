"""The password server's one page, as a Flask application: guests ask for their password, and confirm it.

The request is in the header ``DomU_Request`` of a GET, whatever the path: ``send_my_password`` or ``saved_password``.
A guest is known by its source address.
"""

from __future__ import annotations

import threading
import time

from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException

from router.services.password.vault import Vault

#: requests a guest may send at once, and then in a second
BURST, RATE = 20, 2.0
#: guests whose requests are counted; past that the ones that are within their limits anyway are forgotten
MOST_COUNTED = 4096


class Limiter:
    """A token bucket for each address."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        #: address -> (tokens, when they were counted)
        self._buckets: dict[str, tuple[float, float]] = {}

    def allow(self, address: str, now: float | None = None) -> bool:
        """Whether ``address`` may send a request at ``now`` (monotonic seconds), which it then has."""
        now = time.monotonic() if now is None else now
        with self._lock:
            if len(self._buckets) > MOST_COUNTED:
                self._buckets = {key: value for key, value in self._buckets.items() if now - value[1] < BURST / RATE}
            tokens, counted = self._buckets.get(address, (float(BURST), now))
            tokens = min(BURST, tokens + (now - counted) * RATE)
            allowed = tokens >= 1
            self._buckets[address] = (tokens - 1 if allowed else tokens, now)
            return allowed


def create_app(vault: Vault) -> Flask:
    """The application, on the passwords of ``vault``."""
    app = Flask(__name__, static_folder=None, template_folder=None)
    limiter = Limiter()
    #: address -> id of the password that it was sent last
    sent: dict[str, str] = {}

    def plain(text: str, status: int = 200) -> Response:
        return Response(text, status, {"Cache-Control": "no-store"}, "text/plain")

    @app.get("/", defaults={"path": ""})
    @app.get("/<path:path>")
    def page(path: str) -> Response:
        address = request.remote_addr or ""
        wish = request.headers.get("DomU_Request", "").strip()
        if wish not in ("send_my_password", "saved_password"):
            return plain("bad_request", 400)
        if not limiter.allow(address):
            return plain("bad_request", 429)
        secret = vault.read(address)
        if secret is None:
            return plain("saved_password")
        if wish == "send_my_password":
            sent[address] = secret.id
            return plain(secret.password)
        # a confirmation is of what was sent: a newer password, set meanwhile, stays
        if sent.pop(address, secret.id) == secret.id:
            vault.confirm(address, secret.id)
        return plain("saved_password")

    @app.errorhandler(HTTPException)
    def refused(error: HTTPException) -> Response:
        return plain("bad_request", error.code or 400)

    return app
