"""What the password server reads at its start, and which resets the document knows. No password is rendered."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from appliance.engine.service import File, Rendered, Unit
from appliance.netfilter.base import ACCEPT, INPUT
from appliance.netfilter.ruleset import Ruleset
from appliance.services.interfaces.model import Interface
from appliance.settings import Settings
from router.document import RouterState

UNIT = "password"
PORT = 8080


def config_file(settings: Settings) -> Path:
    return settings.config_dir / "password/server.json"


def ids_file(settings: Settings) -> Path:
    """The ids of the document's passwords, a JSON list: what ``report`` is about."""
    return settings.config_dir / "password/ids.json"


def vault_directory(settings: Settings) -> Path:
    return settings.state_dir / "passwords"


def served(state: RouterState | None) -> tuple[Interface, ...]:
    """The guest interfaces that the password server is on."""
    if state is None or state.passwords is None:
        return ()
    return tuple(nic for nic in state.interfaces.of_role("guest") if nic.name in state.passwords.interfaces)


def addresses(state: RouterState | None) -> tuple[str, ...]:
    return tuple(str(address.ip) for nic in served(state) for address in nic.addresses)


def _ruleset(nics: tuple[Interface, ...]) -> Ruleset:
    rules = []
    for nic in nics:
        own = ", ".join(str(address.ip) for address in nic.addresses)
        rules.append((300, f'iifname "{nic.name}" ip daddr {{ {own} }} tcp dport {PORT} {ACCEPT}'))
    return Ruleset(rules={INPUT: tuple(rules)})


def render(state: RouterState, settings: Settings) -> Rendered:
    """The server and its configuration; nothing at all without an address to serve on."""
    if state.passwords is None or not addresses(state):
        return Rendered()
    vault = vault_directory(settings)
    config = {"listen": addresses(state), "port": PORT, "vault": str(vault)}
    return Rendered(
        files={
            config_file(settings): File(json.dumps(config, indent=1) + "\n"),
            ids_file(settings): File(json.dumps([entry.id for entry in state.passwords.pending]) + "\n"),
        },
        ruleset=_ruleset(served(state)),
        units=(
            Unit(
                name=UNIT,
                argv=(sys.executable, "-m", "router.services.password.server", str(config_file(settings))),
                # passwords are in files of root; without any capability that is all that root is good for
                user="root",
                writable=(vault,),
            ),
        ),
    )
