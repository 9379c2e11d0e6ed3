"""What the metadata server reads: its configuration, the index of the guests, and large user data."""

from __future__ import annotations

import json
import sys
from ipaddress import IPv4Network
from pathlib import Path

from appliance.engine.service import File, Rendered, Unit
from appliance.netfilter.base import ACCEPT, INPUT
from appliance.netfilter.ruleset import Ruleset
from appliance.services.interfaces.model import Interface
from appliance.settings import Settings
from router.document import RouterState
from router.memo import KeyedMemo
from router.services.metadata.content import is_large, line
from router.services.metadata.model import GuestMetadata

Subnets = tuple[IPv4Network, ...]
LineMemo = KeyedMemo[Subnets, GuestMetadata, str]

UNIT = "metadata"
#: Debian's user for web servers; user data may be secret, so nobody else reads the files
USER = "www-data"
PORT = 80
#: where clients look that know no other address
WELL_KNOWN = "169.254.169.254"


def config_file(settings: Settings) -> Path:
    return settings.config_dir / "metadata/server.json"


def index_file(settings: Settings) -> Path:
    return settings.config_dir / "metadata/index"


def data_directory(settings: Settings) -> Path:
    """Large user data, a file for each guest. Sorts before the index: it is there when the index says so."""
    return settings.config_dir / "metadata/data"


def served(state: RouterState) -> tuple[Interface, ...]:
    """The guest interfaces that metadata is served on."""
    if state.metadata is None:
        return ()
    return tuple(nic for nic in state.interfaces.of_role("guest") if nic.name in state.metadata.interfaces)


def _ruleset(nics: tuple[Interface, ...]) -> Ruleset:
    rules = []
    for nic in nics:
        own = ", ".join([*(str(address.ip) for address in nic.addresses), WELL_KNOWN])
        rules.append((300, f'iifname "{nic.name}" ip daddr {{ {own} }} tcp dport {PORT} {ACCEPT}'))
    return Ruleset(rules={INPUT: tuple(rules)})


def guest_line(strict: Subnets, guest: GuestMetadata) -> str:
    """The guest's line of the index; ``strict`` are the subnets that must show a session token."""
    token = any(guest.address in subnet for subnet in strict)
    return line(str(guest.address), guest.items, guest.user_data, token=token)


def render(state: RouterState, settings: Settings, memo: LineMemo) -> Rendered:
    """The server, its configuration, the index of guests; nothing at all without an interface to serve.

    ``memo`` is one of ``guest_line``.
    """
    metadata, nics = state.metadata, served(state)
    if metadata is None or not nics:
        return Rendered()
    data, runtime = data_directory(settings), settings.run_dir / "metadata"
    config = {
        "listen": [*(str(address.ip) for nic in nics for address in nic.addresses), WELL_KNOWN],
        "port": PORT,
        "index": str(index_file(settings)),
        "data": str(data),
        "key": str(runtime / "key"),
    }
    strict = tuple(subnet for nic in nics if nic.name in metadata.token_required for subnet in nic.subnets)
    files = {config_file(settings): File(json.dumps(config, indent=1) + "\n")}
    for guest in metadata.guests:
        if guest.user_data is not None and is_large(guest.user_data):
            # as it came in the document: a thousand guests' user data is not copied
            files[data / str(guest.address)] = File(guest.user_data, mode=0o640, owner=USER)
    files[index_file(settings)] = File("".join(memo.map(strict, metadata.guests)), mode=0o640, owner=USER)
    return Rendered(
        files=files,
        ruleset=_ruleset(nics),
        units=(
            Unit(
                name=UNIT,
                argv=(sys.executable, "-m", "router.services.metadata.server", str(config_file(settings))),
                user=USER,
                capabilities=frozenset({"net_bind_service"}),
                writable=(runtime,),
            ),
        ),
    )
