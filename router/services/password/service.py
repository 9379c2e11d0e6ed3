"""Passwords that guests fetch once: the vault is filled here, the server hands out and forgets."""

from __future__ import annotations

import json
import signal
import socket
from typing import Any

from appliance.engine.service import BaseService, Change, Host, Rendered
from appliance.errors import ProbeError
from appliance.settings import Settings
from router.document import RouterState
from router.services.password.render import PORT, UNIT, addresses, config_file, ids_file, render, vault_directory
from router.services.password.vault import Secret, Vault


def _ask(address: str) -> None:
    """Send a request that names no wish: ``bad_request``. Raises OSError and ProbeError."""
    with socket.create_connection((address, PORT), timeout=1.5) as asking:
        asking.sendall(f"GET / HTTP/1.0\r\nHost: {address}\r\n\r\n".encode())
        answer = b""
        while part := asking.recv(4096):
            answer += part
    if not answer.endswith(b"\r\n\r\nbad_request"):
        raise ProbeError(f"the password server on {address} answers {answer[:80]!r}")


class PasswordService(BaseService):
    name = "password"
    after = ("interfaces",)
    inputs = ("passwords", "interfaces")

    def render(self, state: RouterState, settings: Settings) -> Rendered:
        return render(state, settings)

    def apply(self, change: Change, host: Host) -> None:
        state = change.after
        pending = state.passwords.pending if state is not None and state.passwords is not None else ()
        vault = Vault(vault_directory(host.settings))
        vault.create()
        vault.put(Secret(entry.id, str(entry.address), entry.password.get_secret_value()) for entry in pending)
        vault.prune({entry.id for entry in pending})
        if addresses(state) and UNIT not in change.started and config_file(host.settings) in change.files:
            host.supervisor.signal(UNIT, signal.SIGHUP)

    def probe(self, state: RouterState, host: Host) -> None:
        redundancy = state.interfaces.redundancy
        if redundancy is not None and redundancy.state == "standby":
            return  # a standby router holds none of the addresses
        for address in addresses(state):
            try:
                _ask(address)
            except OSError as error:
                raise ProbeError(
                    f"the password server on {address} does not answer: {error}; {host.supervisor.log_tail(UNIT, 3)}"
                ) from error

    def report(self, host: Host) -> Any:
        """``{"fetched": [ids]}``: passwords of the document that guests have confirmed, for it to let go of."""
        try:
            ids: list[str] = json.loads(ids_file(host.settings).read_text())
        except FileNotFoundError:
            return None
        vault = Vault(vault_directory(host.settings))
        return {"fetched": [secret_id for secret_id in ids if vault.is_fetched(secret_id)]}


SERVICE = PasswordService()
