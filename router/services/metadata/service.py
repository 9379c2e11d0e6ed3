"""User data and metadata of the guests, served by a small process of our own (server.py)."""

from __future__ import annotations

import signal
import socket

from appliance.engine.service import BaseService, Change, Host, Rendered
from appliance.errors import ProbeError
from appliance.settings import Settings
from router.document import RouterState
from router.memo import KeyedMemo
from router.services.metadata.render import (
    PORT,
    UNIT,
    WELL_KNOWN,
    LineMemo,
    config_file,
    guest_line,
    render,
    served,
)


def _listening(address: str) -> None:
    """Ask as a stranger, who must be told nothing: 404. Raises OSError and ProbeError."""
    request = f"GET /latest/meta-data/ HTTP/1.0\r\nHost: {address}\r\n\r\n".encode()
    with socket.create_connection((address, PORT), timeout=1.0) as asking:
        asking.sendall(request)
        begin = asking.recv(64)
    if not begin.startswith(b"HTTP/1.1 404 "):
        raise ProbeError(f"metadata on {address} answers a stranger with {begin!r}")


class MetadataService(BaseService):
    name = "metadata"
    after = ("interfaces",)
    inputs = ("metadata", "interfaces")

    def __init__(self) -> None:
        self._memo: LineMemo = KeyedMemo(guest_line)

    def render(self, state: RouterState, settings: Settings) -> Rendered:
        return render(state, settings, self._memo)

    def apply(self, change: Change, host: Host) -> None:
        # guests' files are read when they are asked for; only the list of addresses is kept by the server
        if change.after is None or not served(change.after) or UNIT in change.started:
            return
        if change.force or config_file(host.settings) in change.files:
            host.supervisor.signal(UNIT, signal.SIGHUP)

    def probe(self, state: RouterState, host: Host) -> None:
        nics, redundancy = served(state), state.interfaces.redundancy
        if not nics or (redundancy is not None and redundancy.state == "standby"):
            return  # a standby router holds none of the addresses
        for address in (*(str(address.ip) for nic in nics for address in nic.addresses), WELL_KNOWN):
            try:
                _listening(address)
            except OSError as error:
                raise ProbeError(
                    f"metadata on {address} does not answer: {error}; {host.supervisor.log_tail(UNIT, 3)}"
                ) from error


SERVICE = MetadataService()
